//! Futures of async libraries on green threads, and green threads in async programs.

use std::future::pending;
use std::io::{Read, Write};
use std::panic;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hebra::future::{block_on, inside};
use hebra::thread::{self, Cancelled};
use hebra::{Config, Runtime};

#[path = "../../../tests/support/mod.rs"]
mod support;

use support::{bounded, on_workers};

/// Runs `test` on a green thread of one worker, of two, and on an OS thread.
fn everywhere(test: impl Fn() + Send + Sync + 'static) {
    let test = Arc::new(test);
    for workers in [1, 2] {
        let test = test.clone();
        on_workers(workers, || thread::spawn(move || test()).join().unwrap());
    }
    bounded(|| test());
}

/// Longer than any test lasts.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn under_any_schedule_wakes_cancellations_and_time_outs_leave_every_message_with_somebody() {
    bounded(|| {
        hebra::sim::check(0..300, || {
            let (send, receive) = smol::channel::bounded::<u32>(2);
            let receivers: Vec<_> = (0..3)
                .map(|_| {
                    let receive = receive.clone();
                    thread::spawn(move || {
                        let mut sum = 0;
                        let mut late = 0;
                        loop {
                            match thread::timeout(Duration::from_micros(5), || {
                                block_on(receive.recv())
                            }) {
                                Ok(Ok(n)) => sum += n,
                                Ok(Err(_)) => return sum,
                                Err(_) => late += 1,
                            }
                            assert!(late < 1000);
                        }
                    })
                })
                .collect();
            let handle = hebra::Handle::current();
            let senders: Vec<_> = (0..4)
                .map(|n| {
                    let send = send.clone();
                    handle.spawn(move || {
                        for _ in 0..5 {
                            thread::sleep(Duration::from_micros(u64::from(n)));
                            block_on(send.send(n)).unwrap();
                        }
                    })
                })
                .collect();
            let idle = thread::spawn(move || block_on(pending::<()>()));
            block_on(async {
                for sender in senders {
                    sender.await.unwrap();
                }
            });
            drop(send);
            let sum: u32 = receivers
                .into_iter()
                .map(|receiver| receiver.join().unwrap())
                .sum();
            assert_eq!(sum, 30);
            idle.cancel();
            assert!(idle.join().unwrap_err().is::<Cancelled>());
        });
    });
}

fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn a_green_thread_receives_from_tokio_channels_and_a_task_from_green_threads() {
    bounded(|| {
        let tokio = tokio();
        let (to_green, mut at_green) = tokio::sync::mpsc::channel::<u32>(4);
        let (to_task, mut at_task) = tokio::sync::mpsc::channel::<u32>(4);
        let task = tokio.spawn(async move {
            for n in 0..1000 {
                to_green.send(n).await.unwrap();
            }
            drop(to_green);
            let mut sum = 0;
            while let Some(n) = at_task.recv().await {
                sum += n;
            }
            sum
        });
        on_workers(2, || {
            let green = thread::spawn(move || {
                let mut all = Vec::new();
                while let Some(n) = block_on(at_green.recv()) {
                    all.push(n);
                }
                all
            });
            let all = green.join().unwrap();
            assert_eq!(all, (0..1000).collect::<Vec<_>>());
            let senders: Vec<_> = (0..10)
                .map(|n| {
                    let to_task = to_task.clone();
                    thread::spawn(move || (0..10).for_each(|_| block_on(to_task.send(n)).unwrap()))
                })
                .collect();
            senders
                .into_iter()
                .for_each(|sender| sender.join().unwrap());
            drop(to_task);
            // A task's handle is a future like any other.
            assert_eq!(block_on(task).unwrap(), 450);
        });
    });
}

#[test]
fn green_threads_use_tokios_timers_sockets_and_tasks_inside_its_context() {
    bounded(|| {
        let tokio = tokio();
        let handle = tokio.handle().clone();
        on_workers(1, || {
            let began = Instant::now();
            let sleepers: Vec<_> = (0..20)
                .map(|_| {
                    let handle = handle.clone();
                    thread::spawn(move || {
                        let sleep = {
                            let _inside = handle.enter();
                            tokio::time::sleep(Duration::from_millis(20))
                        };
                        block_on(sleep);
                    })
                })
                .collect();
            sleepers
                .into_iter()
                .for_each(|sleeper| sleeper.join().unwrap());
            assert!(began.elapsed() >= Duration::from_millis(20));

            let listener = hebra::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let echo = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut buffer = [0; 5];
                stream.read_exact(&mut buffer).unwrap();
                stream.write_all(&buffer).unwrap();
            });
            let talk = async move {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                stream.writable().await.unwrap();
                assert_eq!(stream.try_write(b"hello").unwrap(), 5);
                let mut read = Vec::new();
                while read.len() < 5 {
                    stream.readable().await.unwrap();
                    let mut buffer = [0; 5];
                    if let Ok(n) = stream.try_read(&mut buffer) {
                        read.extend_from_slice(&buffer[..n]);
                    }
                }
                read
            };
            assert_eq!(block_on(handle.spawn(talk)).unwrap(), b"hello");
            echo.join().unwrap();
        });
    });
}

#[test]
fn a_tokio_time_out_around_a_green_thread_detaches_it() {
    bounded(|| {
        let runtime = Runtime::new(Config::default().workers(1)).unwrap();
        let green = runtime.start().unwrap();
        let (open, gate) = hebra::sync::oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let handle = green.spawn(move || tell.send(gate.recv()).unwrap());
        tokio().block_on(async {
            let late = tokio::time::timeout(Duration::from_millis(1), handle).await;
            assert!(late.is_err());
        });
        // The handle is gone, the thread goes on.
        open.send(7).unwrap();
        assert_eq!(told.recv().unwrap(), Ok(7));
        runtime.shutdown(LONG).unwrap();
    });
}

#[test]
fn smol_channels_and_timers_work_in_green_threads() {
    everywhere(|| {
        let (send, receive) = smol::channel::bounded::<u32>(2);
        let task = smol::spawn(async move {
            for n in 0..100 {
                send.send(n).await.unwrap();
            }
        });
        let sum: u32 = std::iter::from_fn(|| block_on(receive.recv()).ok()).sum();
        assert_eq!(sum, 4950);
        block_on(task);
        let began = Instant::now();
        block_on(smol::Timer::after(Duration::from_millis(2)));
        assert!(began.elapsed() >= Duration::from_millis(2));
    });
}

#[test]
fn a_smol_executor_runs_on_a_green_thread() {
    on_workers(1, || {
        let (send, receive) = smol::channel::bounded(1);
        let neighbour = thread::spawn(move || {
            for n in 0..10 {
                thread::sleep(Duration::from_micros(100));
                block_on(send.send(n)).unwrap();
            }
        });
        let executor = smol::LocalExecutor::new();
        let tasks: Vec<_> = (0..10)
            .map(|n| {
                let receive = receive.clone();
                executor.spawn(async move {
                    smol::Timer::after(Duration::from_millis(n)).await;
                    // The neighbour must run on this worker meanwhile.
                    receive.recv().await.unwrap()
                })
            })
            .collect();
        let sum: u64 = block_on(executor.run(async {
            let mut sum = 0;
            for task in tasks {
                sum += task.await;
            }
            sum
        }));
        assert_eq!(sum, 45);
        neighbour.join().unwrap();
    });
}

#[test]
fn inside_enters_tokios_context_around_each_poll() {
    bounded(|| {
        let tokio = tokio();
        let handle = tokio.handle();
        on_workers(1, || {
            let nap = || async { tokio::time::sleep(Duration::from_millis(1)).await };
            thread::scope(|s| {
                for _ in 0..50 {
                    s.spawn(|| {
                        block_on(inside(|| handle.enter(), nap()));
                        // The context is left between polls.
                        assert!(tokio::runtime::Handle::try_current().is_err());
                        block_on(inside(|| handle.enter(), nap()));
                    });
                }
            });
        });
    });
}

#[test]
fn an_async_program_uses_a_runtime_as_a_service() {
    bounded(|| {
        let runtime = Runtime::new(Config::default().workers(2)).unwrap();
        let handle = runtime.start().unwrap();
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let sum = tokio.block_on(async {
            let tasks: Vec<_> = (0..100)
                .map(|n| {
                    let handle = handle.clone();
                    tokio::spawn(async move {
                        let blocking = handle.spawn(move || {
                            thread::sleep(Duration::from_millis(1));
                            n
                        });
                        tokio::time::sleep(Duration::from_micros(n * 20)).await;
                        blocking.await.unwrap()
                    })
                })
                .collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await.unwrap();
            }
            let panics = handle
                .spawn(|| panic::resume_unwind(Box::new("oh")) as ())
                .await;
            assert_eq!(*panics.unwrap_err().downcast::<&str>().unwrap(), "oh");
            let late = handle.spawn(thread::park);
            assert!(
                tokio::time::timeout(Duration::from_millis(1), late)
                    .await
                    .is_err()
            );
            sum
        });
        assert_eq!(sum, 4950);
        let smol = smol::block_on(async {
            let (fast, slow) = (handle.spawn(|| 1), handle.spawn(|| thread::sleep(LONG)));
            let first = smol::future::or(async { fast.await.map(|_| "fast") }, async {
                slow.await.map(|()| "slow")
            });
            first.await.unwrap()
        });
        assert_eq!(smol, "fast");
        // Green threads that wait for tasks of the program that uses them.
        let (ask, mut asked) = tokio::sync::mpsc::channel::<tokio::sync::oneshot::Sender<u32>>(1);
        let answer = tokio.block_on(async {
            let green = handle.spawn(move || {
                let (send, receive) = tokio::sync::oneshot::channel();
                hebra::future::block_on(ask.send(send)).unwrap();
                hebra::future::block_on(receive).unwrap()
            });
            asked.recv().await.unwrap().send(42).unwrap();
            green.await.unwrap()
        });
        assert_eq!(answer, 42);
        runtime.shutdown(LONG).unwrap();
    });
}
