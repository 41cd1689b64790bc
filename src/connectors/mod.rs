//! Where records come from and go to.

pub mod sink;
pub mod source;
