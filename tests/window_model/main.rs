//! Windows against a naive reference: random streams, late and out of order, through random windows, triggers and
//! evictors give exactly what the rules say, in both modes. `MAINSTEM_TEST_CASES` and `MAINSTEM_TEST_SEED` ask for more
//! cases, or for the one that failed; a failing case is made smaller before it is shown.

mod cases;
mod definition;
mod differential;
mod engine;
mod idle;
#[path = "../common/random.rs"]
mod random;
mod reference;
mod rules;
