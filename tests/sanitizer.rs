//! Memory on a coroutine's stack and off it, for AddressSanitizer to look at. Built with `--cfg
//! hebra_planted_error` it contains the error that shows whether the sanitizer looks.

#![cfg(feature = "runtime")]

mod support;
use support::on_workers;

#[test]
fn memory_is_used_as_long_as_it_lives() {
    let sum = on_workers(1, || {
        hebra::thread::spawn(|| {
            let numbers = vec![1u8; 64];
            let first = numbers.as_ptr();
            if cfg!(hebra_planted_error) {
                drop(numbers);
                // SAFETY: none. This is the error.
                return unsafe { first.read_volatile() };
            }
            numbers.iter().sum()
        })
        .join()
        .unwrap()
    });
    assert_eq!(sum, 64);
}
