//! Announces each time an account's running total passes another milestone: a keyed function with state, an
//! accumulator and parameters.
//!
//! ```text
//! cargo run --release --example running_totals -- [--payments N] [--accounts N] [--milestone CENTS]
//!     [--execution-mode batch]
//! ```
//!
//! Payments are generated. What is announced is the same in both modes, because it does not depend on the order in
//! which the payments of an account arrive; when it is announced differs, and so does the memory that it takes.

use mainstem::base::accumulator::AccumulatorHandle;
use mainstem::prelude::*;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::process::ExitCode;

/// One payment into an account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Payment {
    /// Who is paid.
    pub account: u64,
    /// How much.
    pub cents: u64,
}

/// Payment number `i`.
pub fn payment(i: u64, accounts: u64) -> Payment {
    let mixed = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    Payment { account: mixed % accounts, cents: mixed % 997 }
}

/// Emits `(account, milestone)` for each milestone that the account's total passes.
struct Milestones {
    /// State: one number for each account. Only the current account's can be reached.
    total: ValueState<u64>,
    /// Every so many cents. Read in `open`, since the function is made before it knows its subtask.
    every: u64,
    /// Counts over all subtasks, for the job's result.
    paid: Option<AccumulatorHandle<LongCounter>>,
}

impl KeyedProcessFunction<u64, Payment, (u64, u64)> for Milestones {
    fn open(&mut self, ctx: &RuntimeContext) -> UserResult {
        self.every = ctx.parameters().parse_or("milestone", 1_000_000)?;
        if self.every == 0 {
            return Err("parameter 'milestone' is 0; it must be at least 1".into());
        }
        self.paid = Some(ctx.accumulator("cents paid")?);
        Ok(())
    }

    fn process(
        &mut self,
        payment: Payment,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        let (before, after) = self.total.update(ctx, |total| {
            let before = *total;
            *total += payment.cents;
            (before, *total)
        });
        for milestone in before / self.every + 1..=after / self.every {
            out.emit((*ctx.key(), milestone * self.every));
        }
        if let Some(paid) = &mut self.paid {
            paid.add(payment.cents as i64);
        }
        Ok(())
    }
}

/// The program, up to where its results go.
pub fn milestones(env: &Environment) -> mainstem::Result<DataStream<(u64, u64)>> {
    let parameters = env.job_parameters();
    let payments = parameters.parse_or("payments", 1_000_000)?;
    let accounts = parameters.parse_or("accounts", 100)?.max(1);
    Ok(env
        .generate(payments, move |i| payment(i, accounts))
        .name("payments")
        .key_by(|payment| payment.account)
        .process(|states| Milestones { total: states.value("total"), every: 0, paid: None })
        .name("milestones")
        .uid("milestones"))
}

fn run() -> mainstem::Result<JobResult> {
    let env = Environment::from_args()?;
    milestones(&env)?.sink_to(PrintSink::with(|(account, cents): &(u64, u64), line| {
        write!(line, "account {account} has passed {}.{:02}", cents / 100, cents % 100)
    }));
    env.execute("running totals")
}

fn main() -> ExitCode {
    match run() {
        Ok(result) => {
            println!("\n{result}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
