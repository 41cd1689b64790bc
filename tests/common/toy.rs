//! A third, toy executor: one thread, one record at a time, no batching, no back-pressure, and yet the same operators,
//! sources and sinks: nothing in them knows what drives them.

use mainstem::base::accumulator::AttemptAccumulators;
use mainstem::base::batch::{Element, ErasedBatch};
use mainstem::base::data::WATERMARK_MAX;
use mainstem::connectors::source::Poll;
use mainstem::executors::job::JobEnvironment;
use mainstem::operator::erased::AnyOperator;
use mainstem::operator::exchange::{RouteContext, Router, consumers_of};
use mainstem::operator::{Context, Progress};
use mainstem::plan::{PhysicalPlan, StepOperation};
use mainstem::semantics::state::StateScope;
use std::collections::BTreeMap;

/// One subtask of one step.
struct Subtask {
    operator: Box<dyn AnyOperator>,
    context: Context,
    /// Producers of each input that have not ended.
    open: Vec<usize>,
    /// Port, input, router, and the consumers behind it.
    outputs: Vec<Output>,
}

type Output = (usize, usize, Box<dyn Router>, Vec<usize>);

/// All subtasks of a plan for STREAMING.
pub struct Toy(Vec<Subtask>);

impl Toy {
    pub fn new(plan: &PhysicalPlan, job: &JobEnvironment, accumulators: &AttemptAccumulators) -> Toy {
        let ids = plan.steps.iter().flat_map(|step| (0..step.parallelism).map(move |index| (step.id, index)));
        let numbers: BTreeMap<(usize, usize), usize> = ids.zip(0..).collect();
        let mut subtasks: Vec<Subtask> = Vec::new();
        for &(step, index) in numbers.keys() {
            let step = &plan.steps[step];
            let mut operator = match &step.operation {
                StepOperation::Operator(factory) => factory(),
                StepOperation::Source(..) => job.sources[&step.id].operator(index),
                StepOperation::Sink(_) => job.sinks[&step.id].operator(),
            };
            operator.out().attach(&step.side_outputs);
            let runtime = job.runtime(step, index, 0, 0, accumulators);
            let context = Context::new(runtime, StateScope::AllKeys, 1 << 20, None, job.clock.clone());
            subtasks.push(Subtask { operator, context, open: vec![0; step.inputs], outputs: Vec::new() });
        }
        for edge in &plan.edges {
            let (from, to) = (&plan.steps[edge.from], &plan.steps[edge.to]);
            for subtask in 0..from.parallelism {
                let consumers = consumers_of(edge.partitioning, subtask, from.parallelism, to.parallelism);
                let (targets, max_parallelism) = (consumers.len(), to.max_parallelism);
                let at = RouteContext { subtask, parallelism: from.parallelism, targets, max_parallelism };
                let consumers: Vec<usize> = consumers.map(|consumer| numbers[&(edge.to, consumer)]).collect();
                consumers.iter().for_each(|&consumer| subtasks[consumer].open[edge.input] += 1);
                subtasks[numbers[&(edge.from, subtask)]].outputs.push((
                    edge.port,
                    edge.input,
                    edge.exchange.router(&at),
                    consumers,
                ));
            }
        }
        Toy(subtasks)
    }

    /// Polls the sources in turn until all have ended; every record goes all the way before the next.
    pub fn run(&mut self) -> mainstem::Result<()> {
        for subtask in self.0.iter_mut().rev() {
            subtask.operator.open(&mut subtask.context)?;
        }
        // Those that no producer reaches, behind a global partitioning, end at once.
        let orphan = |s: &Subtask| !s.open.is_empty() && s.open.iter().all(|&open| open == 0);
        let orphans: Vec<usize> = (0..self.0.len()).filter(|&i| orphan(&self.0[i])).collect();
        for orphan in orphans {
            for input in 0..self.0[orphan].open.len() {
                self.call(orphan, |to| to.operator.end_of_input(input, &mut to.context))?;
            }
            self.end(orphan)?;
        }
        let mut sources: Vec<usize> = (0..self.0.len()).filter(|&i| self.0[i].open.is_empty()).collect();
        while let Some(source) = sources.pop() {
            let subtask = &mut self.0[source];
            match subtask.operator.poll(&mut subtask.context)? {
                Poll::End => self.end(source)?,
                Poll::More | Poll::Idle(_) => {
                    self.deliver(source)?;
                    sources.insert(0, source);
                }
            }
        }
        self.0.iter_mut().try_for_each(|subtask| subtask.operator.close())
    }

    /// Makes a call until it is done, delivering in between.
    fn call(
        &mut self,
        at: usize,
        mut call: impl FnMut(&mut Subtask) -> mainstem::Result<Progress>,
    ) -> mainstem::Result<()> {
        loop {
            let progress = call(&mut self.0[at])?;
            self.deliver(at)?;
            if progress == Progress::Done {
                return Ok(());
            }
        }
    }

    fn deliver(&mut self, at: usize) -> mainstem::Result<()> {
        self.0[at].operator.out().flush();
        while let Some((port, emitted)) = self.0[at].operator.out().take() {
            // Event time stands still until the end: what sources promise before is left out.
            let Element::Batch(mut emitted) = emitted else { continue };
            while let Some(record) = emitted.take_first() {
                for output in 0..self.0[at].outputs.len() {
                    if self.0[at].outputs[output].0 == port {
                        self.route(at, output, record.clone_batch())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn route(&mut self, at: usize, output: usize, mut record: ErasedBatch) -> mainstem::Result<()> {
        let (_, input, router, consumers) = &mut self.0[at].outputs[output];
        router.route(&mut record)?;
        router.flush();
        let mut routed = Vec::new();
        for (target, &consumer) in consumers.iter().enumerate() {
            routed.extend(router.take(target).map(|batch| (consumer, *input, batch)));
        }
        for (consumer, input, mut batch) in routed {
            assert_eq!(batch.len(), 1);
            self.call(consumer, |to| to.operator.process(input, &mut batch, &mut to.context))?;
        }
        Ok(())
    }

    /// Tells the consumers that this producer has ended; an input ends with the last of its producers.
    fn end(&mut self, at: usize) -> mainstem::Result<()> {
        self.deliver(at)?;
        let ended: Vec<(usize, usize)> = self.0[at]
            .outputs
            .iter()
            .flat_map(|(_, input, _, consumers)| consumers.iter().map(|&consumer| (consumer, *input)))
            .collect();
        for (consumer, input) in ended {
            self.0[consumer].open[input] -= 1;
            if self.0[consumer].open[input] == 0 {
                let ends = self.0[consumer].open.iter().all(|&open| open == 0);
                if ends {
                    self.0[consumer].context.watermark = WATERMARK_MAX;
                    self.call(consumer, |to| to.operator.watermark(WATERMARK_MAX, &mut to.context))?;
                }
                self.call(consumer, |to| to.operator.end_of_input(input, &mut to.context))?;
                if ends {
                    self.end(consumer)?;
                }
            }
        }
        Ok(())
    }
}
