//! The sieve of Eratosthenes as a chain of generators, one for each prime found: each passes on
//! what its prime does not divide.

use hebra::Generator;

type Numbers = Generator<(), u64, ()>;

fn count_from(first: u64) -> Numbers {
    Generator::with_stack_size(16 << 10, move |y, ()| y.yield_from_iter(first..))
}

fn without_multiples_of(prime: u64, numbers: Numbers) -> Numbers {
    Generator::with_stack_size(16 << 10, move |y, ()| {
        y.yield_from_iter(numbers.into_iter().filter(|n| n % prime != 0))
    })
}

fn main() {
    let how_many = std::env::args()
        .nth(1)
        .map_or(100, |arg| arg.parse().expect("a number of primes"));
    let mut numbers = count_from(2);
    for _ in 0..how_many {
        let prime = numbers.iter().next().expect("there is always another one");
        println!("{prime}");
        numbers = without_multiples_of(prime, numbers);
    }
}
