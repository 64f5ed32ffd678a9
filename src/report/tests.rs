use super::*;
use crate::case::Case;
use crate::record::{synthetic, Metric, Round, Sample};
use crate::strategy::Strategy;

/// The tables of reorders alone, for a terminal.
fn reordering(run: &Run) -> String {
    reorders(&Analysis::of(run), Style::Terminal)
}

#[test]
fn the_table_says_what_was_measured_and_on_what() {
    let text = markdown(&synthetic::run(12));
    for wanted in [
        "2 threads used",
        "**transformer-toy, cpu, batch 1**",
        "| position | strategy | step | n | decode tokens/s |",
        " × faster [",
        "padded beats concat from position ",
        " (predicted: 172, measured ",
        "concat beats naive wherever it was measured, positions 1 to 512",
        "- chunked-64 is faster than concat ",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    let (steps, _) = text.split_once("batch 1: prefill").unwrap();
    let rows = steps.lines().filter(|line| line.starts_with("| 512 | "));
    assert!(rows.clone().count() >= 3 && rows.clone().all(|row| row.matches('|').count() == 12), "{text}");
}

/// Two sentences, 500 µs a step and 4 ms for prompts of 256 tokens. Without a cache a step is a prefill: 20 ms.
#[test]
fn tokens_a_second_and_the_time_to_the_first_are_told_apart() {
    let padded: Case = "transformer-toy/padded/cpu/b2/t256".parse().unwrap();
    let naive = padded.under(Strategy::Naive);
    let run = |given: &[(Case, Metric, u64)]| {
        let sample = |&(case, metric, ns): &_| {
            (1..=6).map(move |i| Sample::value(case, metric, Round::Interleaved(i), 1, ns))
        };
        Run { samples: given.iter().flat_map(sample).collect(), ..synthetic::run(0) }
    };
    let steps = [(padded, Metric::StepNs, 500_000), (naive, Metric::StepNs, 20_000_000)];
    let text = markdown(&run(&[&steps[..], &[(padded, Metric::PrefillNs, 4_000_000)]].concat()));
    for wanted in [
        "| 256 | padded | 500 [500, 500] µs | 6 | 4000 [4000, 4000] |",
        "**transformer-toy, cpu, batch 2: prefill**",
        "| prompt | strategy | time to first token | n | prefill tokens/s | GFLOP/s | of peak |",
        "| 256 | naive | 20 [20, 20] ms | 6 | 25600 [25600, 25600] | 131 | 82 % |",
        "| 256 | padded | 4 [4, 4] ms | 6 | 128000 [128000, 128000] | 655 | 412 % |",
        "- A prompt fed in one call to an empty session;",
        "- Without a cache every step feeds the whole sequence",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    assert!(!text.contains("chunked prefill") && !markdown(&run(&steps[..1])).contains("prefill"));
    // in chunks, against one call in the same rounds
    let prefills = [(Metric::PrefillNs, 4_000_000), (Metric::ChunkedPrefillNs(64), 5_000_000)];
    let chunked = prefills.map(|(metric, ns)| (padded, metric, ns));
    let chunked = run(&[&steps[..], &chunked[..]].concat());
    for wanted in [
        "**transformer-toy, cpu, batch 2: chunked prefill**",
        "| prompt | strategy | tokens a call | time to first token | n | against one call |",
        "| 256 | padded | 64 | 5 [5, 5] ms | 6 | 1.25 × slower [1.25, 1.25] |",
        "- The same prompts fed in calls of so many tokens",
    ] {
        assert!(markdown(&chunked).contains(wanted), "{wanted}\n{}", markdown(&chunked));
    }
    assert!(html(&chunked).unwrap().contains("<h3>Chunked prefill</h3>"));
}

/// Whatever the name and the note of a run say, on a page they are words.
#[test]
fn a_name_and_a_note_are_shown_and_do_nothing() {
    let mut run = synthetic::run(6);
    let page = html(&run).unwrap();
    assert!(markdown(&run).starts_with("Run `2026-11-21T12-00-00Z-synthetic-2c`: "));
    assert!(!page.contains("<dt>name</dt>") && !page.contains("<dt>note</dt>"));
    run.environment.name = Some("`a` [b](c) <i>".into());
    run.environment.note = Some("<script>alert(1)</script>".into());
    assert!(markdown(&run).starts_with("Run `2026-11-21T12-00-00Z-synthetic-2c` ( a  (b)(c)  i ): "));
    let page = html(&run).unwrap();
    assert!(page.contains("<dt>name</dt>") && page.contains("<dt>note</dt>"));
    assert!(!page.contains("<script>alert") && !page.contains("<i>"));
}

/// By the names, the types and the one unit that the action's `customSmallerIsBetter` reads.
#[test]
fn steps_for_the_github_action_are_those_of_the_tables() {
    let mut run = synthetic::decoded(12, 1);
    let failed: Case = "transformer-toy/onehot/cpu/b1/t64".parse().unwrap();
    run.samples.push(Sample::failed(failed, Metric::StepNs, Round::Single, "out of memory"));
    let json: serde_json::Value = serde_json::from_str(&github_action_benchmark(&run).unwrap()).unwrap();
    let entries = json.as_array().unwrap();
    let analysis = Analysis::of(&run);
    let lines: Vec<SummaryRow> = summary(&analysis).into_iter().flat_map(|summary| summary.lines).collect();
    let lines: Vec<&SummaryRow> = lines.iter().filter(|line| line.step_ns.is_some()).collect();
    assert!(lines.len() > 10 && entries.len() == lines.len());
    for (entry, line) in entries.iter().zip(lines) {
        let step = line.step_ns.unwrap();
        assert_eq!(entry.as_object().unwrap().len(), 5);
        assert_eq!((&entry["name"], &entry["unit"]), (&line.case.to_string().into(), &"ns".into()));
        assert_eq!(entry["value"].as_f64(), Some(step.value));
        assert_eq!(entry["range"], format!("[{:.0}, {:.0}]", step.lo, step.hi));
        let extra = entry["extra"].as_str().unwrap();
        for wanted in ["n = 12\n", "2 threads used", "revision 0123456789ab", &run.name()] {
            assert!(extra.contains(wanted), "{extra}");
        }
    }
    let none = github_action_benchmark(&synthetic::compiled(3)).unwrap_err().to_string();
    assert!(none.ends_with("no table of the run has a step"), "{none}");
}

/// Of a run of decodes: the positions that were asked for, and how their steps were sampled, in words.
#[test]
fn the_table_says_where_its_steps_are_from() {
    let mut run = synthetic::decoded(12, 1);
    let note = "Steps of decodes: the median of at most 8 that end at the position, in each round";
    let text = markdown(&run);
    assert!(text.contains(&format!("- {note}.\n")), "{text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.contains(" | padded | ")).collect();
    let positions: Vec<&str> = rows.iter().map(|row| row.split(" | ").next().unwrap()).collect();
    assert_eq!(positions, ["| 64", "| 256", "| 512"], "{text}");
    assert!(rows.iter().all(|row| row.contains(" | 12 | ")), "n counts rounds: {rows:?}");
    let copied: Case = "transformer-toy/onehot/cpu/b1/t64".parse().unwrap();
    let copies = |round| Sample::value(copied, Metric::StepNs, Round::Interleaved(round), 1, 720_000);
    run.samples.extend((1..=12).map(copies));
    assert!(markdown(&run).contains(&format!("{note}; not {copied}, whose steps are of copies.")));
    run.environment.step_window = None;
    assert!(!markdown(&run).contains("Steps of decodes"), "older runs say nothing of it");
}

/// Padded beats concat late in the decodes, and a row that says the opposite there is named by what it is of.
#[test]
fn a_finding_names_the_row_that_denies_it() {
    let said = |round: fn(u32) -> Round| {
        let mut run = synthetic::decoded(12, 1);
        let slow = |s: &Sample| s.case.strategy == Strategy::Padded && (505..=512).contains(&s.case.position);
        run.samples.retain(|sample| !slow(sample));
        let case: Case = "transformer-toy/padded/cpu/b1/t512".parse().unwrap();
        run.samples.extend((1..=12).map(|i| Sample::value(case, Metric::StepNs, round(i), 1, 2_000_000)));
        let copies = |i| Sample::value(case.under(Strategy::Concat), Metric::StepNs, round(i), 1, 700_000);
        if !round(1).is_decode() {
            run.samples.extend((1..=12).map(copies));
        }
        let text = markdown(&run);
        text.lines().find(|line| line.contains("padded beats concat from")).unwrap().to_string()
    };
    assert!(said(Round::Decode).ends_with("; the steps at position 512 say the opposite."));
    assert!(said(Round::Interleaved)
        .ends_with("; in whole decodes: interleaved steps say the opposite at position 512."));
}

#[test]
fn the_terminal_has_the_same_rows() {
    let run = synthetic::run(6);
    let rows = markdown(&run).lines().filter(|l| l.starts_with("| 512")).count();
    let text = table(&run);
    assert_eq!(text.lines().filter(|line| line.trim_start().starts_with("512")).count(), rows);
}

#[test]
fn the_brief_section_is_six_rows() {
    let text = section(&synthetic::run(12), Section::Brief).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).skip(2).collect();
    assert_eq!(rows.len(), 6, "{text}");
    assert!(text.contains("padded beats concat from position ") && rows[5].contains(" × faster ["), "{text}");
    let error = section(&synthetic::compiled(3), Section::Brief).unwrap_err().to_string();
    assert!(error.ends_with("no position has steps of naive, concat and padded"), "{error}");
    assert!(section(&synthetic::run(2), Section::Reorders).is_err());
}

#[test]
fn what_was_reordered_stands_beside_the_step_that_follows() {
    let run = synthetic::reordered(5); // so few that an interval is the whole range
    let text = markdown(&run);
    for wanted in [
        "**transformer-toy, cpu: beams**",
        "| position | beams | strategy | reorder | step | n | reorder / step | bytes |",
        "| 256 | 4 | concat | 300 [100, 500] µs | 3 [1, 5] ms | 5 | 0.100 [0.100, 0.100] | 12.0 MiB |",
        "| 256 | 4 | padded | 1.35 [0.450, 2.25] ms | 2.70 [0.900, 4.50] ms | 5 | 0.500 [0.500, 0.500] | 24 MiB |",
        "- Reordering the entries of a batch",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    assert!(!text.contains("batch 4"), "no table of steps: {text}");
    assert!(table(&run).ends_with(&reordering(&run)));
    assert_eq!(reordering(&synthetic::run(2)), "");
}

#[test]
fn what_was_compiled_is_a_table_that_says_what_it_is_of() {
    let run = synthetic::compiled(3);
    let text = markdown(&run);
    for wanted in [
        "NVRTC 12.9, no GPU",
        "**transformer-toy, nvrtc-sm_90, batch 1: compiling**",
        "| 512 | chunked-64 | 8.80 [8, 9.60] s | 3 | 8 | 24 | 1.10 s |",
        "- A shape's time is the sum over its new kernels",
        "- Intervals of 3 rounds are their whole range.",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    assert!(table(&run).contains("   512  chunked-64  8.80 [8, 9.60] s"));
    assert!(!markdown(&synthetic::run(2)).contains("compiling"));
}

/// A run of `compile` does not say how it sampled; its marks are said all the same, and a run from before there were
/// marks says nothing of them.
#[test]
fn marks_of_compile_times_are_said() {
    let mut run = synthetic::compiled(3);
    run.environment.sampling = None;
    assert!(!markdown(&run).contains("marked"));
    run.samples[1].mark = Some("preempted stolen".into());
    assert!(
        markdown(&run).contains("1 of 1563 samples of rounds are marked: 1 preempted, 1 stolen."),
        "{}",
        markdown(&run)
    );
}

/// Eight rounds, of which the first took twice as long while another program had a processor.
#[test]
fn a_figure_is_shown_with_and_without_the_disturbed_rounds_where_they_differ() {
    let mut run = synthetic::decoded(8, 3);
    let padded: Case = "transformer-toy/padded/cpu/b1/t512".parse().unwrap();
    for sample in run.samples.iter_mut().filter(|s| s.case.at(512) == padded && s.round.number() == 1) {
        sample.value = sample.value.map(|ns| 2 * ns);
    }
    assert!(!markdown(&run).contains("disturbed"));
    let others = (1..=8).map(|round| if round == 1 { 1000 } else { 4 });
    let rows = (1..).zip(others).map(|(round, others)| {
        Sample::value(padded, Metric::OthersPermille, Round::Decode(round), 1, others)
    });
    run.samples.extend(rows);
    let text = markdown(&run);
    let note =
        text.lines().find(|line| line.contains("t512: without 1 disturbed round; with them ")).expect(&text);
    assert!(note.ends_with("µs, n = 8."), "{note}");
    assert!(!text.contains("concat/cpu/b1/t512: without"), "nothing is known of its rounds");
    let first = |line: &&str| line.starts_with("| 512 | padded |") && line.contains("| 7 |");
    assert!(text.lines().any(|line| first(&line)), "{text}");
}
