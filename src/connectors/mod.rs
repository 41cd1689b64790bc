//! Where records come from and go to.

pub mod kept;
pub mod format;
pub mod sink;
pub mod source;
