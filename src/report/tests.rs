use super::*;
use crate::record::synthetic;

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
        "| position | strategy | step | n |",
        " × faster [",
        "padded beats concat from position ",
        " (predicted: 172, measured ",
        "concat beats naive wherever it was measured, positions 1 to 512",
        "- chunked-64 is faster than concat ",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    let rows = text.lines().filter(|line| line.starts_with("| 512 | "));
    assert!(rows.clone().count() >= 3 && rows.clone().all(|row| row.matches('|').count() == 11), "{text}");
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
