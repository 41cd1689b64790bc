//! The programs of the examples, run in process against plain loops.

use mainstem::prelude::*;
use std::collections::BTreeMap;

#[allow(dead_code, reason = "an example's `main` is not called here")]
#[path = "../examples/running_totals.rs"]
mod running_totals;

const PAYMENTS: u64 = 20_000;
const ACCOUNTS: u64 = 37;
const MILESTONE: u64 = 50_000;

fn parameters(milestone: u64) -> Parameters {
    let all = [("payments", PAYMENTS), ("accounts", ACCOUNTS), ("milestone", milestone)];
    all.map(|(key, value)| (key, value.to_string())).into_iter().collect()
}

/// Every milestone of every account, and what was paid in all.
fn expected() -> (Vec<(u64, u64)>, u64) {
    let mut totals: BTreeMap<u64, u64> = BTreeMap::new();
    for payment in (0..PAYMENTS).map(|i| running_totals::payment(i, ACCOUNTS)) {
        *totals.entry(payment.account).or_default() += payment.cents;
    }
    let passed =
        |(&account, total): (&u64, &u64)| (1..=total / MILESTONE).map(move |n| (account, n * MILESTONE));
    (totals.iter().flat_map(passed).collect(), totals.values().sum())
}

/// A7, O1, O2: state, accumulator and parameters of a keyed function are the same in both modes.
#[test]
fn running_totals_pass_the_same_milestones_in_both_modes() {
    let (milestones, paid) = expected();
    assert!(milestones.len() > ACCOUNTS as usize, "too few milestones to tell anything");
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        for parallelism in [1, 2, 5] {
            let env = Environment::new().execution_mode(mode).parallelism(parallelism);
            let env = env.parameters(parameters(MILESTONE));
            let mut running =
                running_totals::milestones(&env).unwrap().execute_and_collect("totals").unwrap();
            let mut passed: Vec<(u64, u64)> = running.by_ref().collect::<mainstem::Result<_>>().unwrap();
            passed.sort();
            assert_eq!(passed, milestones, "{mode}, parallelism {parallelism}");
            let result = running.result().unwrap();
            let accumulated = result.accumulators.get::<LongCounter>("cents paid").unwrap();
            assert_eq!(accumulated, paid as i64, "{mode}, parallelism {parallelism}");
        }
    }
}

/// O2: an error from `open` fails the job and names the operator.
#[test]
fn running_totals_refuse_a_milestone_of_nothing() {
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        let env = Environment::new().execution_mode(mode).parameters(parameters(0));
        let error =
            running_totals::milestones(&env).unwrap().execute_and_collect("totals").unwrap().into_vec();
        let error = error.unwrap_err().to_string();
        assert!(error.contains("'milestones'") && error.contains("'milestone' is 0"), "{mode}: {error}");
    }
}
