//! The same-fringe problem: do two trees have the same leaves in the same order, whatever their
//! shapes?
//!
//! Each tree is walked by plain recursion, but only as far as the other one agrees: the walk of a
//! tree with a million leaves ends at the first difference. Without generators that takes two
//! explicit stacks, or two lists of all leaves.

use std::cell::Cell;
use std::rc::Rc;

use hebra::{Generator, Yielder};

/// A binary tree with values at its leaves.
enum Tree {
    Leaf(u32),
    Node(Box<Tree>, Box<Tree>),
}

use Tree::{Leaf, Node};

impl Tree {
    fn node(left: Tree, right: Tree) -> Tree {
        Node(Box::new(left), Box::new(right))
    }

    /// A tree with the leaves `low` to `high` - 1: each left branch has one in `share` of its
    /// parent's.
    fn of(low: u32, high: u32, share: u32) -> Tree {
        match high - low {
            1 => Leaf(low),
            count => {
                let middle = low + (count / share).max(1);
                Tree::node(Tree::of(low, middle, share), Tree::of(middle, high, share))
            }
        }
    }

    /// Yields the leaves from left to right.
    fn walk(&self, y: &Yielder<(), u32>) {
        match self {
            Leaf(value) => y.yield_(*value),
            Node(left, right) => {
                left.walk(y);
                right.walk(y);
            }
        }
    }

    /// The leaves as an iterator that counts those it has visited.
    fn fringe(self, visited: &Rc<Cell<u32>>) -> impl Iterator<Item = u32> {
        let visited = visited.clone();
        Generator::new(move |y, ()| self.walk(y))
            .into_iter()
            .inspect(move |_| visited.set(visited.get() + 1))
    }
}

/// Compares, and says how many leaves it took.
fn compare(what: &str, one: Tree, two: Tree) {
    let visited = Rc::new(Cell::new(0));
    let same = one.fringe(&visited).eq(two.fringe(&visited));
    println!(
        "{what}: {} ({} leaves visited)",
        if same { "the same fringe" } else { "different" },
        visited.get()
    );
}

fn main() {
    compare("two shapes", Tree::of(0, 10_000, 2), Tree::of(0, 10_000, 4));
    compare(
        "a leaf more",
        Tree::of(0, 10_000, 2),
        Tree::of(0, 10_001, 2),
    );
    let early = Tree::node(Leaf(0), Tree::node(Leaf(7), Tree::of(2, 10_000, 2)));
    compare("another second leaf", Tree::of(0, 10_000, 2), early);
}
