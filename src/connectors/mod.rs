//! Where records come from and go to.

pub mod format;
pub mod kept;
pub mod sink;
pub mod source;
