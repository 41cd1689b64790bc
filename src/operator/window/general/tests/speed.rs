//! How long a record takes; run with `--release --ignored --nocapture`.

use super::*;
use crate::base::batch::BATCH_RECORDS;
use crate::base::clock::VirtualClock;
use crate::base::hash::hash_of;
use crate::operator::exchange::FnKey;
use std::time::Instant;

#[test]
#[ignore = "prints times"]
fn speed_of_sessions() {
    for (keys, records) in [(1_000u64, 10_000_000u64), (100_000, 20_000_000), (1_000_000, 20_000_000)] {
        for (name, gap) in [("growing", 500), ("ending", 5)] {
            let setup = rig::setup_of::<u64, _>(Sessions::with_gap(ms(gap)));
            let key = Arc::new(FnKey(move |n: &u64| n % keys));
            let contents = Incremental::new(AggregateWindow(Count), Emit);
            let mut operator = GeneralWindows::new(setup, contents, WindowStates::default(), key);
            let mut ctx = rig::context(StateScope::AllKeys, VirtualClock::new());
            operator.open(&mut ctx).unwrap();
            let mut out = Out::new();
            let (mut seed, mut results) = (1u64, 0);
            let mut batch: Batch<u64> = Batch::new();
            let start = Instant::now();
            let mut feeding = std::time::Duration::ZERO;
            for from in (0..records).step_by(BATCH_RECORDS) {
                for i in from..from + BATCH_RECORDS as u64 {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    batch.values.push(seed >> 20);
                    // 5 M records a second.
                    batch.timestamps.push((i / 5_000) as i64);
                }
                let values = &batch.values;
                batch.hashes.extend(values.iter().map(|n| hash_of(&(n % keys))));
                let fed = Instant::now();
                while operator.process(&mut batch, &mut ctx, &mut out).unwrap() == Progress::Yielded {
                    results += out.take().map_or(0, |batch| batch.len());
                }
                if (from / BATCH_RECORDS as u64).is_multiple_of(100) {
                    ctx.watermark = (from / 5_000) as i64 - 10;
                    let watermark = ctx.watermark;
                    while operator.watermark(watermark, &mut ctx, &mut out).unwrap() == Progress::Yielded {
                        results += out.take().map_or(0, |batch| batch.len());
                    }
                }
                feeding += fed.elapsed();
                batch.clear();
            }
            out.flush();
            println!(
                "{keys} keys, {name}: {:.0} ns a record (with input {:.0}), {} results",
                feeding.as_nanos() as f64 / records as f64,
                start.elapsed().as_nanos() as f64 / records as f64,
                results
            );
        }
    }
}
