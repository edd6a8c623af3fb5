//! Spawning onto a runtime from outside, through its [`Handle`].

use std::io;
use std::panic::Location;
use std::sync::Arc;

use super::join::Join;
use super::packet::Packet;
use super::{Builder, JoinHandle};
use crate::runtime::Handle;
use crate::scheduler::task::Task;

impl Handle {
    /// Spawns a green thread that runs `f`, on any worker. With no session running it waits for the
    /// next one.
    ///
    /// The [`JoinHandle`] can be joined by any thread, and is a future for async programs. Once the
    /// runtime is over, `f` is dropped at once, and joining fails
    /// with [`Cancelled`](super::Cancelled).
    ///
    /// # Panics
    /// Panics where [`Builder::spawn_on`] would return an error.
    ///
    /// ```
    /// let runtime = hebra::Runtime::new(hebra::Config::default())?;
    /// let handle = runtime.handle();
    /// let os = std::thread::spawn(move || handle.spawn(|| "from outside").join().unwrap());
    /// runtime.run(|| assert_eq!(hebra::thread::timeout(std::time::Duration::from_secs(9), || {
    ///     while !os.is_finished() {
    ///         hebra::thread::yield_now();
    ///     }
    /// }), Ok(())));
    /// assert_eq!(os.join().unwrap(), "from outside");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Builder::new()
            .spawn_on(self, f)
            .expect("failed to spawn a green thread")
    }
}

impl Builder {
    /// Spawns a green thread that runs `f` on the runtime of `handle`; see [`Handle::spawn`].
    ///
    /// # Errors
    /// As [`Builder::spawn`].
    #[track_caller]
    pub fn spawn_on<F, T>(self, handle: &Handle, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let task: Arc<Task<dyn Join<T>>> = Arc::new(self.task(Location::caller(), Packet::new(f))?);
        handle.launch(task.clone())?;
        Ok(JoinHandle::shared(task))
    }
}
