//! The time of a step by the closed forms of [`crate::cost`], on the ceilings measured in the same run.

use super::measurements::{Group, Measurements};
use crate::case::{BackendName, Case};
use crate::cost::Step;
use crate::record::{Environment, Metric};
use crate::strategy::Strategy;
use crate::suite::check_position;

/// The steps of one strategy.
pub struct Predictor<'a> {
    environment: &'a Environment,
    case: Case,
    /// Where they were counted, kernels of a step with their position, in order.
    kernels: Vec<(usize, f64)>,
}

impl<'a> Predictor<'a> {
    pub fn new(
        environment: &'a Environment,
        found: &Measurements,
        group: Group,
        strategy: Strategy,
    ) -> Predictor<'a> {
        let metric = match group.backend {
            BackendName::CudaGraph => Metric::StepKernels,
            _ => Metric::StepLaunches,
        };
        let count = |position| Some((position, found.median(&group.case(strategy, position), metric)?.value));
        let kernels = found.positions(group, strategy, metric).into_iter().filter_map(count).collect();
        Predictor { environment, case: group.case(strategy, 1), kernels }
    }

    /// Nanoseconds of the step to a position: all bytes that it must read and those that its strategy copies
    /// at the read ceiling, or its arithmetic at that of the best product, whichever takes longer; and on a
    /// GPU what starting its kernels costs. `None` where one of these is not known, and at positions that the model
    /// does not have, whatever a file says: who asks for all of them stops there.
    pub fn ns(&self, position: usize) -> Option<f64> {
        let case = &self.case.at(position);
        check_position(case).ok()?;
        let work = Step::of(case).ok()?.work();
        let bytes = Step::floor_of(case)? + work.copied_bytes;
        let moved = bytes as f64 * 1e9 / self.environment.read_ceiling(case)? as f64;
        let computed = work.flops as f64 * 1e9 / self.environment.peak_flops_of(case.backend)? as f64;
        Some(moved.max(computed) + self.launches_ns(position)?)
    }

    /// Kernels were counted at some positions, and are as many at those in between: a long past is shared out
    /// to more blocks and not to more kernels.
    fn launches_ns(&self, position: usize) -> Option<f64> {
        let distance = |(counted, _): &&(usize, f64)| counted.abs_diff(position);
        let nearest = self.kernels.iter().min_by_key(distance);
        match (self.case.backend, nearest) {
            (BackendName::Cpu, _) => Some(0.0),
            (backend, nearest) => self.environment.launches_ns(backend, nearest?.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{findings, Analysis, Prediction, Question};
    use crate::record::{synthetic, Bandwidth, Gpu, PeakFlops, Protocol, Round, Run, Sample};

    /// The synthetic run's cases as if on a GPU: 3 TB/s, a step of concat in 40 kernels and one of padded in 34.
    fn on_a_gpu(backend: &str, launch_ns: Option<u64>, graph_node_ns: Option<u64>) -> Run {
        let mut run = synthetic::run_at(6, &[1, 64, 256, 512]);
        let read = Bandwidth {
            model_shape: "transformer-toy".into(),
            bytes: 10_500_000,
            bytes_per_second: 3_000_000_000_000,
            ..Bandwidth::default()
        };
        let peak = PeakFlops { flops_per_second: 60_000_000_000_000, how: "turns".into() };
        run.environment.gpu = Some(Gpu {
            read_bandwidth: vec![read],
            peak_flops: Some(peak),
            launch_ns,
            graph_node_ns,
            ..Gpu::default()
        });
        run.ledger.clear();
        for sample in &mut run.samples {
            sample.case.backend = backend.parse().unwrap();
        }
        let count = |strategy, metric, kernels| {
            let case = format!("transformer-toy/{strategy}/{backend}/b1/t64").parse().unwrap();
            Sample::value(case, metric, Round::Single, 1, kernels)
        };
        for (strategy, kernels) in [("concat", 40), ("padded", 34), ("naive", 40)] {
            run.samples.push(count(strategy, Metric::StepKernels, kernels));
            let launches = if backend == "cuda-graph" { 1 } else { kernels };
            run.samples.push(count(strategy, Metric::StepLaunches, launches));
        }
        run
    }

    fn predicted(run: &Run, strategy: Strategy, position: usize) -> Option<f64> {
        let found = Measurements::of(run, Protocol::Decode);
        let group = found.groups()[0];
        Predictor::new(&run.environment, &found, group, strategy).ns(position)
    }

    #[test]
    fn launches_are_part_of_a_gpu_s_time() {
        let bytes_alone = predicted(&on_a_gpu("cuda", Some(0), None), Strategy::Padded, 64).unwrap();
        let with = predicted(&on_a_gpu("cuda", Some(2000), None), Strategy::Padded, 64).unwrap();
        assert_eq!(with - bytes_alone, 34.0 * 2000.0);
        let graph = predicted(&on_a_gpu("cuda-graph", Some(2000), Some(1300)), Strategy::Padded, 64).unwrap();
        assert_eq!(graph - bytes_alone, 2000.0 + 34.0 * 1300.0);
    }

    /// However far a file's positions reach, a prediction of each ends with the model's.
    #[test]
    fn positions_that_a_model_does_not_have_are_not_predicted() {
        let run = on_a_gpu("cuda", Some(2000), None);
        assert!(predicted(&run, Strategy::Padded, 512).is_some());
        assert_eq!(predicted(&run, Strategy::Padded, 513), None);
    }

    /// A time without them would promise what no GPU does.
    #[test]
    fn without_the_cost_of_a_launch_nothing_is_predicted() {
        assert_eq!(predicted(&on_a_gpu("cuda", None, Some(1300)), Strategy::Padded, 64), None);
        assert_eq!(predicted(&on_a_gpu("cuda-graph", Some(2000), None), Strategy::Padded, 64), None);
        let mut uncounted = on_a_gpu("cuda", Some(2000), None);
        uncounted.samples.retain(|sample| sample.metric != Metric::StepLaunches);
        assert_eq!(predicted(&uncounted, Strategy::Padded, 64), None);
    }

    /// By bytes padded wins from a third of its 512 rows on. Six launches more of 2 µs each are the time of 36 MB:
    /// concat never makes up for them.
    #[test]
    fn launches_move_a_predicted_crossing() {
        let (first, second) = (Strategy::Padded, Strategy::Concat);
        let beats = |run: &Run| {
            let found = findings(&Analysis::of(run));
            let asked = Question::BeatsFrom { first, second };
            found.iter().find(|finding| finding.question == asked).unwrap().predicted
        };
        assert_eq!(beats(&on_a_gpu("cuda", Some(0), None)), Some(Prediction::At { value: 172.0 }));
        assert_eq!(beats(&on_a_gpu("cuda", Some(2000), None)), Some(Prediction::Always));
    }
}
