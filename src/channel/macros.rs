//! [`select!`](macro@crate::channel::select) and [`select_biased!`](crate::channel::select_biased):
//! crossbeam's grammar.
//!
//! ```text
//!   select! { case* }
//!   case:  recv(receiver) -> pattern => body      send(sender, message) -> pattern => body
//!          default => body      default() => body      default(timeout) => body        one of the three at most
//!   body:  an expression and a comma, or a block and perhaps a comma; none is needed after the last
//! ```
//!
//! `@cases` takes one case after the other off the tokens, and sorts them into operations and
//! defaults; `@default` sees that there is one of these at most. `@list` evaluates the channels, in
//! order, and makes the list; the list is run; `@arms` turns the operations into the arms of a
//! `match` on which was selected. The message of a send is evaluated only there.

/// Waits for the first of several channel operations that does not have to wait, completes it, and
/// goes on with its arm.
///
/// The operations are `recv(receiver) -> result => …` and `send(sender, message) -> result => …`,
/// as in crossbeam: the result is a `Result<T, RecvError>` or `Result<(), SendError<T>>`. A message
/// is evaluated only if its operation is selected. If several could go first, a random one does.
/// With `default => …` nothing is waited for; `default(timeout) => …` says for how long.
///
/// Whatever ends in a receiver can be waited for together: a deadline ([`at`](crate::channel::at),
/// [`after`](crate::channel::after)), the end of a thread ([`finished`](crate::channel::finished)),
/// a socket ([`readable`](crate::channel::readable), [`writable`](crate::channel::writable)).
///
/// ```
/// use std::time::Duration;
/// use hebra::channel::{after, bounded, select};
/// use hebra::thread;
///
/// hebra::run(|| {
///     let (sender, receiver) = bounded(0);
///     let (quit, quitting) = bounded::<()>(0);
///     thread::spawn(move || (0..3).for_each(|n| sender.send(n).unwrap()));
///     let mut sum = 0;
///     loop {
///         select! {
///             recv(receiver) -> number => match number {
///                 Ok(number) => sum += number,
///                 Err(_) => break,
///             },
///             recv(quitting) -> _ => break,
///             recv(after(Duration::from_secs(60))) -> _ => panic!("nobody has sent for a minute"),
///         }
///     }
///     assert_eq!(sum, 3);
///     # drop(quit);
/// });
/// ```
///
/// # Cancellation
/// Parks the current thread; this is a cancel point, and then no operation is done. In a destructor
/// of a thread that is being cancelled one of them fails, if all would have to wait.
#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    ($($tokens:tt)*) => {
        $crate::__select_cases!(@cases false () () $($tokens)*)
    };
}

/// As [`select!`](macro@crate::channel::select), but of several operations that do not have to wait
/// the first goes.
///
/// ```
/// use hebra::channel::{select_biased, unbounded};
///
/// let (first, urgent) = unbounded();
/// let (second, ordinary) = unbounded();
/// second.send("news").unwrap();
/// first.send("alarm").unwrap();
/// let heard = select_biased! {
///     recv(urgent) -> message => message,
///     recv(ordinary) -> message => message,
/// };
/// assert_eq!(heard, Ok("alarm"));
/// ```
///
/// # Cancellation
/// As `select!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __select_biased {
    ($($tokens:tt)*) => {
        $crate::__select_cases!(@cases true () () $($tokens)*)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __select_cases {
    // All cases have been read.
    (@cases $biased:tt $operations:tt $defaults:tt) => {
        $crate::__select_cases!(@default $biased $operations $defaults)
    };

    // Cases: with a block and a comma; with an expression and a comma; with a block; with an expression at the end.
    (@cases $biased:tt $operations:tt $defaults:tt
        default => $($rest:tt)*) => {
        $crate::__select_cases!(@cases $biased $operations $defaults default() => $($rest)*)
    };
    (@cases $biased:tt $operations:tt ($($defaults:tt)*)
        default($($timeout:expr)? $(,)?) => { $($body:tt)* }, $($rest:tt)*) => {
        $crate::__select_cases!(@cases $biased $operations ($($defaults)* (($($timeout)?) { $($body)* })) $($rest)*)
    };
    (@cases $biased:tt $operations:tt ($($defaults:tt)*)
        default($($timeout:expr)? $(,)?) => $body:expr, $($rest:tt)*) => {
        $crate::__select_cases!(@cases $biased $operations ($($defaults)* (($($timeout)?) { $body })) $($rest)*)
    };
    (@cases $biased:tt $operations:tt ($($defaults:tt)*)
        default($($timeout:expr)? $(,)?) => { $($body:tt)* } $($rest:tt)*) => {
        $crate::__select_cases!(@cases $biased $operations ($($defaults)* (($($timeout)?) { $($body)* })) $($rest)*)
    };
    (@cases $biased:tt $operations:tt ($($defaults:tt)*)
        default($($timeout:expr)? $(,)?) => $body:expr) => {
        $crate::__select_cases!(@cases $biased $operations ($($defaults)* (($($timeout)?) { $body })))
    };

    (@cases $biased:tt ($($operations:tt)*) $defaults:tt
        recv($receiver:expr $(,)?) -> $result:pat => { $($body:tt)* }, $($rest:tt)*) => {
        $crate::__select_cases!(@cases $biased ($($operations)* (recv ($receiver) $result, { $($body)* })) $defaults $($rest)*)
    };
    (@cases $biased:tt ($($operations:tt)*) $defaults:tt
        recv($receiver:expr $(,)?) -> $result:pat => $body:expr, $($rest:tt)*) => {
        $crate::__select_cases!(@cases $biased ($($operations)* (recv ($receiver) $result, { $body })) $defaults $($rest)*)
    };
    (@cases $biased:tt ($($operations:tt)*) $defaults:tt
        recv($receiver:expr $(,)?) -> $result:pat => { $($body:tt)* } $($rest:tt)*) => {
        $crate::__select_cases!(@cases $biased ($($operations)* (recv ($receiver) $result, { $($body)* })) $defaults $($rest)*)
    };
    (@cases $biased:tt ($($operations:tt)*) $defaults:tt
        recv($receiver:expr $(,)?) -> $result:pat => $body:expr) => {
        $crate::__select_cases!(@cases $biased ($($operations)* (recv ($receiver) $result, { $body })) $defaults)
    };

    (@cases $biased:tt ($($operations:tt)*) $defaults:tt
        send($sender:expr, $message:expr $(,)?) -> $result:pat => { $($body:tt)* }, $($rest:tt)*) => {
        $crate::__select_cases!(
            @cases $biased ($($operations)* (send ($sender, $message) $result, { $($body)* })) $defaults $($rest)*)
    };
    (@cases $biased:tt ($($operations:tt)*) $defaults:tt
        send($sender:expr, $message:expr $(,)?) -> $result:pat => $body:expr, $($rest:tt)*) => {
        $crate::__select_cases!(@cases $biased ($($operations)* (send ($sender, $message) $result, { $body })) $defaults $($rest)*)
    };
    (@cases $biased:tt ($($operations:tt)*) $defaults:tt
        send($sender:expr, $message:expr $(,)?) -> $result:pat => { $($body:tt)* } $($rest:tt)*) => {
        $crate::__select_cases!(
            @cases $biased ($($operations)* (send ($sender, $message) $result, { $($body)* })) $defaults $($rest)*)
    };
    (@cases $biased:tt ($($operations:tt)*) $defaults:tt
        send($sender:expr, $message:expr $(,)?) -> $result:pat => $body:expr) => {
        $crate::__select_cases!(@cases $biased ($($operations)* (send ($sender, $message) $result, { $body })) $defaults)
    };

    // What is wrong with what comes next.
    (@cases $biased:tt $operations:tt $defaults:tt default $arguments:tt -> $($rest:tt)*) => {
        compile_error!("expected `=>` after `default`, found `->`: it has no result")
    };
    (@cases $biased:tt $operations:tt $defaults:tt $operation:ident($($arguments:tt)*) => $($rest:tt)*) => {
        compile_error!(concat!(
            "expected `-> result` after `", stringify!($operation), "(", stringify!($($arguments)*), ")`, found `=>`"
        ))
    };
    (@cases $biased:tt $operations:tt $defaults:tt $($rest:tt)+) => {
        compile_error!(concat!(
            "expected `recv(receiver) -> result => body`, `send(sender, message) -> result => body` or `default => body`, and a comma \
             after each body that is no block, from here on: `", stringify!($($rest)+), "`"
        ))
    };

    (@default $biased:tt () ()) => {
        compile_error!("empty `select!` block")
    };

    // None, or one. A receive alone needs no list.
    (@default $biased:tt ((recv ($receiver:expr) $result:pat, $body:tt)) ()) => {
        match $receiver {
            ref receiver => {
                let receiver: &$crate::channel::Receiver<_> = receiver;
                let result = receiver.recv();
                let $result = result;
                $body
            }
        }
    };
    (@default $biased:tt $operations:tt ()) => {
        $crate::__select_cases!(@list $biased $operations $operations () (select) ())
    };
    (@default $biased:tt $operations:tt ((() $body:tt))) => {
        $crate::__select_cases!(@list $biased $operations $operations () (try_select) ($body))
    };
    (@default $biased:tt $operations:tt ((($timeout:expr) $body:tt))) => {
        $crate::__select_cases!(@list $biased $operations $operations () (select_timeout $timeout) ($body))
    };
    (@default $biased:tt $operations:tt $several:tt) => {
        compile_error!("there can be only one `default` case in a `select!` block")
    };

    // One `match` inside of the other, so that what the channels' expressions borrow lives until the body has run.
    (@list $biased:tt $operations:tt
        ((recv ($receiver:expr) $($_rest:tt)*) $($more:tt)*) ($($handles:tt)*) $run:tt $default:tt) => {
        match $receiver {
            ref handle => {
                let handle: &$crate::channel::Receiver<_> = handle;
                $crate::__select_cases!(@list $biased $operations ($($more)*) ($($handles)* (recv handle)) $run $default)
            }
        }
    };
    (@list $biased:tt $operations:tt
        ((send ($sender:expr, $message:expr) $($_rest:tt)*) $($more:tt)*) ($($handles:tt)*) $run:tt $default:tt) => {
        match $sender {
            ref handle => {
                let handle: &$crate::channel::Sender<_> = handle;
                $crate::__select_cases!(@list $biased $operations ($($more)*) ($($handles)* (send handle)) $run $default)
            }
        }
    };
    (@list $biased:tt $operations:tt () $handles:tt ($run:ident $($timeout:expr)?) ($($default:tt)?)) => {{
        let mut cases = $crate::__select_cases!(@array $handles () 0usize);
        let selected = $crate::channel::internal::$run(&mut cases, $($timeout,)? $biased);
        $crate::__select_cases!(@arms selected (0usize) $operations $handles ($($default)?))
    }};

    (@array () ($($cases:tt)*) $index:expr) => {
        [$($cases)*]
    };
    (@array (($operation:ident $handle:ident) $($more:tt)*) ($($cases:tt)*) $index:expr) => {
        $crate::__select_cases!(
            @array ($($more)*) ($($cases)* $crate::channel::internal::Case::$operation($handle, $index),) $index + 1usize)
    };

    // Each arm takes the selected operation out of its variable, so that the body may do what it likes with the handles.
    (@arms $selected:ident ($index:expr)
        ((recv ($receiver:expr) $result:pat, $body:tt) $($operations:tt)*) ((recv $handle:ident) $($handles:tt)*) $default:tt) => {
        if $crate::channel::internal::is(&$selected, $index) {
            let result = $crate::channel::internal::recv($selected, $handle);
            let $result = result;
            $body
        } else {
            $crate::__select_cases!(@arms $selected ($index + 1usize) ($($operations)*) ($($handles)*) $default)
        }
    };
    (@arms $selected:ident ($index:expr)
        ((send ($sender:expr, $message:expr) $result:pat, $body:tt) $($operations:tt)*) ((send $handle:ident) $($handles:tt)*)
        $default:tt) => {
        if $crate::channel::internal::is(&$selected, $index) {
            let result = $crate::channel::internal::send($selected, $handle, $message);
            let $result = result;
            $body
        } else {
            $crate::__select_cases!(@arms $selected ($index + 1usize) ($($operations)*) ($($handles)*) $default)
        }
    };
    (@arms $selected:ident $index:tt () () ($default:tt)) => {{
        ::std::mem::drop($selected);
        $default
    }};
    (@arms $selected:ident $index:tt () () ()) => {
        ::std::unreachable!("one of the operations was selected")
    };
}
