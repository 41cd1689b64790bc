//! Testing: what programs are tested with.
//!
//! Place: on top of everything; only tests use it, and it is part of the library so that tests of programs can.
//! Nothing here sleeps, and nothing but [`both_modes`] and the BATCH form of a harness starts a thread.
//!
//! - [`Harness`] and [`TwoInputHarness`] hold one operator, or a chain of them, between a test and its assertions: push
//!   records, watermarks and processing time in, look at what has come out, take a snapshot and go on from it.
//! - [`Probe`] records what a stream carries in any job, watermarks with it.
//! - [`ScriptedSource`] is a source that does what a test says, split by split: records, watermarks, pauses.
//! - [`assert_same_in_both_modes`] and [`both_modes`] run a program in STREAMING and in BATCH.
//!
//! # One operator, step by step
//!
//! ```
//! use mainstem::prelude::*;
//! use mainstem::testing::Harness;
//!
//! /// Emits the running total of each key; what is negative goes to a side output.
//! struct Totals { total: ValueState<i64>, negative: SideOutput<i64> }
//!
//! impl KeyedProcessFunction<bool, i64, i64> for Totals {
//!     fn process(&mut self, n: i64, ctx: &mut KeyedContext<bool>, out: &mut Collector<'_, i64>) -> UserResult {
//!         if n < 0 {
//!             out.emit_to(&self.negative, n);
//!         } else {
//!             out.emit(self.total.update(ctx, |total| { *total += n; *total }));
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let negative = SideOutput::<i64>::new("negative");
//! let totals = |numbers: DataStream<i64>| {
//!     numbers.key_by(|n| n % 2 == 0).process(|states| Totals {
//!         total: states.value("total"),
//!         negative: SideOutput::new("negative"),
//!     })
//! };
//! let mut harness = Harness::new(totals).read_side_output(&negative);
//! harness.push(3)?;
//! harness.push_at(4, 1_000)?;
//! harness.push_all([5, -1])?;
//! assert_eq!(harness.take_output(), [3, 4, 8]);
//! assert_eq!(harness.take_side_output(&negative)?, [-1]);
//!
//! harness.watermark(2_000)?;
//! assert_eq!(harness.watermarks(), [2_000]);
//! harness.end()?;
//! # Ok::<(), mainstem::Error>(())
//! ```
//!
//! # A program in both modes
//!
//! ```
//! use mainstem::prelude::*;
//! use mainstem::testing::assert_same_in_both_modes;
//!
//! let lines = ["to be", "or not"].map(String::from);
//! let results = assert_same_in_both_modes(
//!     |lines: DataStream<String>| {
//!         lines.flat_map(|line, out| words(&line).for_each(|word| out.emit(word.len())))
//!     },
//!     lines.into_iter().zip([1_000, 2_000]),
//! );
//! assert_eq!(results.len(), 4);
//! ```

mod engine;
mod feed;
mod harness;
mod inner;
mod modes;
mod probe;
mod reasons;
mod script;
mod snapshot;

pub use harness::{Harness, TwoInputHarness};
pub use modes::{BothModes, assert_same_final_results, assert_same_in_both_modes, both_modes};
pub use probe::{Event, Probe};
pub use script::{Script, ScriptedSource};
pub use snapshot::HarnessSnapshot;
