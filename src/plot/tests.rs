use super::*;
use crate::analysis::Analysis;
use crate::record::{synthetic, Metric, Sample};

/// Everything of `<text ..>..</text>`.
fn texts(svg: &str) -> Vec<String> {
    let after = svg.split("<text ").skip(1).filter_map(|rest| rest.split_once('>')?.1.split_once("</text>"));
    after.map(|(text, _)| text.trim().to_string()).collect()
}

fn figure(run: &Run, name: &str) -> Option<String> {
    let all = figures(&Analysis::of(run), None).unwrap();
    Some(all.into_iter().find(|figure| figure.name.starts_with(name))?.svg)
}

/// Those of a run on a CPU that compiled nothing.
const FIGURES: [&str; 5] = ["cumulative", "floor", "latency", "memory", "startup"];

#[test]
fn figures_are_the_same_bytes_every_time_and_the_text_is_drawn() {
    let run = synthetic::run(12);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let files = folders.each_ref().map(|folder| draw(&run, &folder.path().join("plots")).unwrap());
    let mut names: Vec<String> =
        files[0].iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    let both = |figure| ["png", "svg"].map(|ending| format!("{figure}-transformer-toy-cpu-b1.{ending}"));
    assert_eq!(names, FIGURES.map(both).concat());
    for (one, other) in files[0].iter().zip(&files[1]) {
        assert!(std::fs::read(one).unwrap() == std::fs::read(other).unwrap(), "{}", one.display());
    }
}

/// A picture with its text is darker than the same without: the font is found on any machine.
#[test]
fn text_is_drawn_in_the_png() {
    let svg = figure(&synthetic::run(6), "latency").unwrap();
    let without: String = svg.split("<text ").enumerate().fold(String::new(), |all, (i, part)| {
        all + if i == 0 { part } else { part.split_once("</text>").unwrap().1 }
    });
    let ink = |svg: &str| {
        let png = raster::png(svg).unwrap();
        let pixels = resvg::tiny_skia::Pixmap::decode_png(&png).unwrap();
        pixels.pixels().iter().filter(|p| p.red() < 128).count()
    };
    assert!(ink(&svg) > ink(&without) + 5000, "{} {}", ink(&svg), ink(&without));
}

#[test]
fn figures_say_what_they_show_and_where_it_comes_from() {
    let run = synthetic::run(12);
    let latency = texts(&figure(&run, "latency").unwrap());
    for wanted in ["naive", "concat", "padded", "1 ms", "64", "time of one step"] {
        assert!(latency.iter().any(|text| text == wanted), "{wanted}: {latency:?}");
    }
    let anywhere = |texts: &[String], wanted: &str| texts.iter().any(|text| text.contains(wanted));
    for wanted in [
        "transformer-toy, cpu, batch 1",
        "2 threads used",
        "revision",
        "n = 12",
        "padded faster than concat from",
    ] {
        assert!(anywhere(&latency, wanted), "{wanted}: {latency:?}");
    }
    let sums = texts(&figure(&run, "cumulative").unwrap());
    assert!(anywhere(&sums, "slope ") && anywhere(&sums, "predicted "), "{sums:?}");
    assert!(anywhere(&texts(&figure(&run, "memory").unwrap()), "KiB"));
    assert!(anywhere(&texts(&figure(&run, "floor").unwrap()), "GB/s"));
    assert!(anywhere(&texts(&figure(&run, "startup").unwrap()), " + "));
}

#[test]
fn a_failed_position_is_a_gap() {
    let mut run = synthetic::run(6);
    let lines = |run: &Run| figure(run, "latency").unwrap().matches("opacity=\"0.2\"").count();
    let before = lines(&run);
    for sample in &mut run.samples {
        let case = sample.case;
        if sample.metric == Metric::StepNs
            && case.strategy == crate::strategy::Strategy::Concat
            && case.position == 64
        {
            *sample = Sample::failed(case, Metric::StepNs, sample.round, "logits differ");
        }
    }
    assert_eq!(
        lines(&run),
        before + 5,
        "concat's band, and the bands of the four ratios to it, in two pieces"
    );
}

/// The medians and intervals of every position, as texts in the units that the report uses.
#[test]
fn a_figure_holds_the_values_that_it_shows() {
    let run = synthetic::run(12);
    let svg = figure(&run, "latency").unwrap();
    let value = |text: &'_ str, name: &str| -> Option<String> {
        Some(text.split_once(&format!("{name}=\""))?.1.split_once('"')?.0.to_string())
    };
    let positions = value(&svg, "data-positions").unwrap();
    let positions: Vec<&str> = positions.split(' ').collect();
    assert_eq!(positions.len(), 12);
    assert_eq!(value(&svg, "data-columns").unwrap().split(' ').count(), 12);
    let panel = svg.split("class=\"panel\"").nth(1).unwrap();
    let curves: Vec<&str> = panel.split("<g class=\"curve\"").filter(|g| g.contains("data-values")).collect();
    assert_eq!(curves.len(), 6);
    let found = crate::analysis::Measurements::of(&run, crate::record::Protocol::Decode);
    for curve in curves {
        let (name, values) = (value(curve, "data-names").unwrap(), value(curve, "data-values").unwrap());
        assert!(curve.contains(&format!("<title>{name}</title>")), "{name}");
        for (position, text) in positions.iter().zip(values.split('|')) {
            let case = format!("transformer-toy/{name}/cpu/b1/t{position}");
            let median = found.median(&case.parse().unwrap(), Metric::StepNs).unwrap();
            assert_eq!(text, crate::units::Quantity::Nanoseconds.show_estimate(median), "{case}");
            assert!(svg.contains(&format!("<title>{name}, position {position}: {text}</title>")), "{case}");
        }
    }
    assert!(figure(&run, "cumulative").unwrap().contains(" timed as one"));
    assert!(figure(&run, "memory").unwrap().contains("data-names=\"concat,"), "curves that lie on one line");
}

#[test]
fn labels_of_a_figure_do_not_cover_each_other() {
    let svg = figure(&synthetic::run(6), "cumulative").unwrap();
    let attribute = |text: &str, name: &str| -> f64 {
        text.split_once(name).unwrap().1.split_once('"').unwrap().0.parse().unwrap()
    };
    let column = svg.split("<text ").skip(1).filter(|text| attribute(text, "x=\"") == 728.0 * 8.0);
    let mut rows: Vec<f64> = column.map(|text| attribute(text, " y=\"") / 8.0).collect();
    rows.sort_by(f64::total_cmp);
    assert!(rows.len() >= 12 && rows.windows(2).all(|pair| pair[1] - pair[0] >= 13.5), "{rows:?}");
}

#[test]
fn one_sample_at_one_position_is_drawn_too() {
    let run = synthetic::run_at(1, &[64]);
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(draw(&run, folder.path()).unwrap().len(), 2 * FIGURES.len());
    assert!(figure(&run, "latency").unwrap().contains("n = 1 sample"));
}

#[test]
fn a_run_with_nothing_measured_has_no_figures() {
    let mut run = synthetic::run(1);
    run.samples.clear();
    run.ledger.clear();
    let folder = tempfile::tempdir().unwrap();
    assert!(draw(&run, folder.path()).unwrap().is_empty());
}

#[test]
fn compile_times_are_drawn_against_the_decodes_of_a_cpu() {
    let (compiled, steps) = (synthetic::compiled(3), synthetic::run(6));
    let alone = texts(&figure(&compiled, "compile").unwrap());
    let said = |texts: &[String], wanted: &str| texts.iter().any(|text| text.contains(wanted));
    assert!(said(&alone, "NVRTC 12.9, backend nvrtc-sm_90") && said(&alone, "No GPU took part"), "{alone:?}");
    let with = figures(&Analysis::of(&compiled), Some(&steps)).unwrap();
    let [with] = &with[..] else { panic!("a run that compiles has one figure") };
    assert_eq!(with.name, "compile-transformer-toy-nvrtc-sm_90-b1");
    let with = texts(&with.svg);
    for wanted in ["compile + 1 decode", "compile + 1000 decodes", "one decode on a CPU", "no GPU result"] {
        assert!(said(&with, wanted), "{wanted}: {with:?}");
    }
    assert!(!said(&with, "least at"), "sums of medians of two runs have no interval: {with:?}");
}

/// Four beams and eight of them, which cost twice as much to reorder.
#[test]
fn reorders_are_drawn_over_beams() {
    let mut run = synthetic::reordered(6);
    let wider = run.samples.clone().into_iter().map(|mut sample| {
        sample.case.batch = 8;
        let twice = if sample.metric == Metric::ReorderNs { 2 } else { 1 };
        sample.value = sample.value.map(|value| twice * value);
        sample
    });
    let mut naive: Vec<Sample> = run.samples.clone();
    naive.iter_mut().for_each(|sample| sample.case.strategy = crate::strategy::Strategy::Naive);
    run.samples.extend(wider.chain(naive).collect::<Vec<_>>());
    let svg = figure(&run, "reorder-transformer-toy-cpu-b1").unwrap();
    let shown = texts(&svg);
    for wanted in
        ["concat", "padded", "reorder / step, position 256", "a step", "beams (hypotheses of one sentence)"]
    {
        assert!(shown.iter().any(|text| text == wanted), "{wanted}: {shown:?}");
    }
    assert!(shown.iter().any(|text| text.contains("n = 6 rounds")), "{shown:?}");
    assert!(!shown.iter().any(|text| text == "naive"), "it has nothing to move: {shown:?}");
    for wanted in [
        r#"data-place="beams""#,
        r#"data-positions="4 8""#,
        r#"data-values="0.100 ×|0.200 ×""#,
        r#"data-values="0.500 ×|1 ×""#,
    ] {
        assert!(svg.contains(wanted), "{wanted}");
    }
    run.samples.retain(|sample| sample.metric == Metric::ReorderBytes);
    assert!(figure(&run, "reorder").is_none(), "bytes are counted, and no time is drawn of them");
}

#[test]
fn decodes_of_another_length_are_not_set_against_compile_times() {
    let mut steps = synthetic::run(6);
    steps.samples.retain(|sample| sample.metric != Metric::DecodeNs);
    let error = figures(&Analysis::of(&synthetic::compiled(1)), Some(&steps)).err().unwrap();
    assert!(error.to_string().contains("no whole decodes of 512 tokens of transformer-toy"), "{error}");
}
