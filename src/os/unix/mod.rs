//! What Unix systems have in common, with the API of [`std::os::unix`].

pub mod fs;
pub mod net;
