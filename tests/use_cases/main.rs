//! The data of the fraud, taxi and click examples, and what they come to by plain loops.

mod clicks;
mod fraud;
#[path = "../../examples/common/random.rs"]
mod random;
mod taxi;
