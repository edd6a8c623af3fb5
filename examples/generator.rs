//! A generator walks a tree in order, recursively: it yields from whatever depth the walk has
//! reached.

use hebra::{Generator, Yielder};

struct Tree {
    value: u32,
    left: Option<Box<Tree>>,
    right: Option<Box<Tree>>,
}

impl Tree {
    /// Builds a balanced tree of the numbers from `low` to `high` - 1.
    fn of(low: u32, high: u32) -> Option<Box<Tree>> {
        let value = low + (high - low) / 2;
        (low < high).then(|| {
            Box::new(Tree {
                value,
                left: Tree::of(low, value),
                right: Tree::of(value + 1, high),
            })
        })
    }

    fn walk(&self, y: &Yielder<(), u32>) {
        self.left.iter().for_each(|left| left.walk(y));
        y.yield_(self.value);
        self.right.iter().for_each(|right| right.walk(y));
    }
}

fn main() {
    let tree = Tree::of(1, 16).expect("it has nodes");
    let numbers = Generator::new(move |y, ()| tree.walk(y));
    let line: Vec<String> = numbers.into_iter().map(|n| n.to_string()).collect();
    println!("{}", line.join(" "));
}
