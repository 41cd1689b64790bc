//! Plans of small programs, as `explain` shows them: what runs together, where it is cut, which mistakes are named.

use mainstem::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn explain(mode: ExecutionMode, build: impl FnOnce(&Environment)) -> Result<String, String> {
    let env = Environment::new().execution_mode(mode).parallelism(2);
    build(&env);
    env.explain().map_err(|e| e.to_string())
}

/// The lines that say which operators are a task: `id: a -> b xN`.
fn tasks(plan: &str) -> Vec<&str> {
    let tasks =
        plan.lines().skip_while(|line| !line.starts_with("Chains") && !line.starts_with("Stages")).skip(1);
    tasks.take_while(|line| !line.is_empty()).map(str::trim).filter(|line| !line.starts_with("<-")).collect()
}

fn counting(env: &Environment) {
    let numbers = env.generate(10, |i| i).name("numbers").map(|i| i % 3).name("mod");
    numbers.key_by(|i| *i).count().name("count").sink_to(DiscardSink).name("drop");
}

/// M3, M9, P4: a hash edge cuts both modes; BATCH folds before it.
#[test]
fn a_shuffle_ends_a_chain_and_a_stage() {
    let plan = explain(ExecutionMode::Streaming, counting).unwrap();
    assert_eq!(tasks(&plan), ["0: numbers -> mod x2", "1: count -> drop x2"], "{plan}");
    let plan = explain(ExecutionMode::Batch, counting).unwrap();
    assert_eq!(tasks(&plan), ["0: numbers -> mod -> combine count x2", "1: count -> drop x2"], "{plan}");
    assert!(plan.contains("<- 0 by hash ("), "partial results of a fold are not sorted: {plan}");
}

/// M3, P5: the chaining controls cut chains, never stages.
#[test]
fn stages_do_not_heed_the_chaining_controls() {
    let build = |env: &Environment| {
        let numbers = env.generate(10, |i| i).name("a").map(|i| i).name("b").disable_chaining();
        numbers.map(|i| i).name("c").sink_to(DiscardSink).name("d");
    };
    let plan = explain(ExecutionMode::Streaming, build).unwrap();
    assert_eq!(tasks(&plan), ["0: a x2", "1: b x2", "2: c -> d x2"], "{plan}");
    let plan = explain(ExecutionMode::Batch, build).unwrap();
    assert_eq!(tasks(&plan), ["0: a -> b -> c -> d x2"], "{plan}");
}

/// M1: AUTOMATIC is BATCH exactly if all sources end.
#[test]
fn the_automatic_mode_follows_the_sources() {
    let endless =
        |env: &Environment| drop(env.read(Generate::unbounded(|i| i)).name("endless").sink_to(DiscardSink));
    assert!(explain(ExecutionMode::Automatic, counting).unwrap().contains("Stages"));
    assert!(explain(ExecutionMode::Automatic, endless).unwrap().contains("Chains"));
    let mistake = explain(ExecutionMode::Batch, endless).unwrap_err();
    assert!(mistake.contains("'endless'") && mistake.contains("unbounded"), "{mistake}");
}

/// A3: mistakes are found when the plan is built and name the operator.
#[test]
fn mistakes_name_the_operator() {
    type Build = fn(&Environment);
    let cases: [(Build, &str); 5] = [
        (|_| (), "no operators"),
        (|env| drop(env.generate(1, |i| i)), "no sink"),
        (
            |env| {
                let one = env.generate(1, |i| i).name("one").parallelism(1);
                one.forward().map(|i| i).name("two").sink_to(DiscardSink);
            },
            "operator 'two': a forward edge from 'one' needs equal parallelism",
        ),
        (
            |env| {
                let twice = env.generate(1, |i| i).uid("u").name("one").map(|i| i).uid("u").name("two");
                twice.sink_to(DiscardSink);
            },
            "operator 'two': uid 'u' is already that of operator 'one'",
        ),
        (
            |env| drop(env.generate(1, |i| i).name("none").parallelism(0).sink_to(DiscardSink)),
            "parallelism 0",
        ),
    ];
    for (build, expected) in cases {
        let mistake = explain(ExecutionMode::Streaming, build).unwrap_err();
        assert!(mistake.contains(expected), "expected '{expected}', found '{mistake}'");
    }
}

/// M3: after a run the graph of the plan has what each stage and operator did: the same as the result says in numbers.
#[test]
fn the_graph_of_a_run_has_its_figures() {
    let env = Environment::new()
        .execution_mode(ExecutionMode::Batch)
        .parallelism(2)
        .memory(ByteSize::mib(8))
        .restart_strategy(RestartStrategy::FixedDelay { attempts: 1, delay: Duration::ZERO });
    let fails = Arc::new(AtomicBool::new(true));
    let numbers =
        env.generate(200_000, |i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15), [i; 8])).try_map(move |n| {
            match fails.swap(false, Ordering::SeqCst) {
                true => Err("once"),
                false => Ok(n),
            }
        });
    numbers.sort_by(|n| n.0).name("in \"order\"").sink_to(DiscardSink);
    let result = env.execute("figures").unwrap();
    let (first, graph) = (&result.stages[0], &result.graph);
    assert_eq!((first.shuffle_rows, first.retries()), (200_000, 1), "{result}");
    assert!(first.spills > 0, "{result}");
    let title = format!(", {} units, {} attempts<br/>200,000 rows, ", first.units, first.attempts);
    let skew = format!(", skew {:.2}<br/>spilled ", first.skew);
    let stage: Vec<&str> = graph.lines().filter(|line| line.contains("subgraph t0")).collect();
    assert!(stage[0].starts_with("  subgraph t0[\"stage x2<br/>"), "{graph}");
    assert!(stage[0].contains(&title) && stage[0].contains(&skew), "{graph}");
    assert!(graph.contains("[\"in #quot;order#quot;<br/>200,000 in, 200,000 out\"]"), "{graph}");
    assert!(graph.contains("<br/>200,000 out\"])"), "what the source has read: {graph}");
    // Without its figures it is the graph of the plan.
    let mut bare = String::new();
    for line in graph.lines() {
        let end = line.find("<br/>").map(|at| (at, line.rfind('"').unwrap()));
        bare += &end.map_or(line.to_string(), |(at, end)| format!("{}{}", &line[..at], &line[end..]));
        bare.push('\n');
    }
    let env = Environment::new().execution_mode(ExecutionMode::Batch).parallelism(2);
    let numbers = env.generate(200_000, |i| (i, [i; 8])).try_map(Ok::<_, String>);
    numbers.sort_by(|n| n.0).name("in \"order\"").sink_to(DiscardSink);
    assert_eq!(bare, env.explain_graph().unwrap());
}

/// A3: of a streaming job it has the time of each chain and the records of each operator.
#[test]
fn the_graph_of_a_streaming_run_has_the_times_of_its_chains() {
    let env = Environment::new().execution_mode(ExecutionMode::Streaming).parallelism(2);
    counting(&env);
    let result = env.execute("figures").unwrap();
    let chains: Vec<&str> = result.graph.lines().filter(|line| line.contains("subgraph")).collect();
    assert_eq!(chains.len(), 2, "{}", result.graph);
    assert!(chains.iter().all(|line| line.contains("chain x2<br/>busy ")), "{}", result.graph);
}
