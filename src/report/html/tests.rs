use super::*;
use crate::analysis::Analysis;
use crate::record::{synthetic, CoreClass, CoreKind, EqualityRow, Gpu, Metric, Round, Sample};

fn page(run: &Run) -> String {
    html(run).unwrap()
}

#[test]
fn the_page_has_what_the_report_has() {
    let run = synthetic::run(12);
    let page = page(&run);
    let report = crate::report::markdown(&run);
    let rows: Vec<&str> = report.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(rows.len() > 12);
    for cell in rows.iter().flat_map(|row| row.trim_matches('|').split(" | ")).map(str::trim) {
        let cell = cell.replace('/', "&#x2f;");
        let found = ["td", "button"].iter().any(|tag| page.contains(&format!(">{cell}</{tag}>")));
        assert!(found || cell.starts_with([':', '-']), "{cell}");
    }
    for wanted in [
        "padded beats concat from position ",
        "(predicted: ",
        "Synthetic(R) Processor",
        "2 threads used",
        "revision 0123456789ab",
        "2026-11-21 12:00:00 UTC",
        "version 1</dd>",
        "2026-11-21T12-00-00Z-synthetic-2c/samples.csv",
        "within the tolerance",
        " =</td>",
        "Start-up",
        "<h3>Prefill: time to first token</h3>",
        "Without a cache every step feeds the whole sequence",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
}

/// Every figure as it is in its own file, and a button for every curve.
#[test]
fn figures_stand_in_the_page_as_they_are() {
    let run = synthetic::run(12);
    let page = page(&run);
    let figures = crate::plot::figures(&Analysis::of(&run), None).unwrap();
    assert_eq!(figures.len(), 5);
    for figure in figures {
        assert!(page.contains(&figure.svg), "{}", figure.name);
        for (name, sample) in figure.curves {
            assert_eq!(page.matches(&format!("data-name=\"{name}\">{sample}")).count(), 1, "{name}");
        }
    }
    assert!(page.contains("Disturbed by the machine: "));
}

#[test]
fn what_was_compiled_is_on_the_page() {
    let mut run = synthetic::compiled(3);
    assert!(page(&run).contains("Compiling every shape of a decode"));
    for wanted in [
        "<h3>Compiling</h3>",
        "data-key=\"1032.0\" class=\"number\">1032</td>",
        "Intervals of 3 rounds are their whole range",
    ] {
        assert!(page(&run).contains(wanted), "{wanted}");
    }
    let case = run.samples[0].case;
    run.samples.push(Sample::failed(case, Metric::CompileNs, Round::Interleaved(4), "no memory"));
    assert!(page(&run).contains(" alarm\">") && page(&run).contains("failed: no memory</td>"));
}

/// In the section of the one sentence whose hypotheses the beams are; the bytes alone where nothing was timed.
#[test]
fn what_was_reordered_is_on_the_page() {
    let mut run = synthetic::reordered(6);
    let all = page(&run);
    for wanted in [
        "<h2>transformer-toy, cpu, batch 1</h2>",
        "Reordering beams",
        "<h3>Beams put into another order</h3>",
        ">0.500 [0.500, 0.500]</td>",
        ">24 MiB</td>",
    ] {
        assert!(all.contains(wanted), "{wanted}");
    }
    assert!(!all.contains("batch 4</h2>"));
    run.samples.retain(|sample| sample.metric == Metric::ReorderBytes);
    let bytes = page(&run);
    assert!(bytes.contains(">24 MiB</td>") && !bytes.contains("Reordering beams"));
}

#[test]
fn the_page_is_the_same_bytes_every_time() {
    let run = synthetic::run(6);
    assert!(page(&run) == page(&run));
}

/// What would make a browser load or follow something: there is none of it, and the page's own
/// policy forbids it.
#[test]
fn nothing_on_the_page_refers_to_anything_outside() {
    let page = page(&synthetic::run(6));
    for reference in ["src=", "href=", "url(", "@import", "fetch(", "XMLHttpRequest", "import("] {
        assert!(!page.contains(reference), "{reference}");
    }
    let links: Vec<&str> = page.split("http").skip(1).map(|rest| &rest[..30]).collect();
    let allowed = |link: &&str| link.starts_with("-equiv") || link.starts_with("://www.w3.org/2000/svg");
    assert!(links.iter().all(allowed), "{links:?}");
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn what_a_file_says_is_text_and_nothing_else() {
    const HOSTILE: &str = r#"</script><img src=x onerror="alert(1)">'{{ 7 * 7 }}"#;
    let mut run = synthetic::run(6);
    run.path = std::path::Path::new("results").join("<img src=x onerror=alert(1)>");
    run.notes.push(HOSTILE.into());
    for text in [&mut run.environment.cpu_model, &mut run.environment.rustc, &mut run.environment.kernel] {
        *text = Some(HOSTILE.into());
    }
    run.environment.tool_version = HOSTILE.into();
    run.environment.command_line = vec![HOSTILE.into()];
    let EqualityRow { place, error, .. } = &mut run.equality[0];
    (*place, *error) = (HOSTILE.into(), Some(HOSTILE.into()));
    let case = run.samples[0].case.at(512);
    run.samples.push(Sample::failed(case, Metric::StepNs, Round::Interleaved(1), HOSTILE));
    let page = page(&run);
    assert!(!page.contains("<img") && page.contains("{{ 7 * 7 }}"));
    assert_eq!(page.matches("<script").count(), 1);
    assert_eq!(page.matches("</script>").count(), 1);
    assert!(page.matches("&lt;img").count() >= 8);
}

#[test]
fn what_a_reader_must_know_is_said_first() {
    let mut run = synthetic::run(6);
    assert!(!page(&run).contains(r#"<p class="warning">Measured"#));
    run.environment.git_dirty = Some(true);
    run.environment.finished_utc = None;
    let page = page(&run);
    let head = page.split_once("</header>").unwrap().0;
    for wanted in ["uncommitted changes", "The run is unfinished."] {
        assert!(head.contains(wanted), "{wanted}");
    }
}

#[test]
fn a_gpu_is_named_with_all_that_is_known_of_it() {
    let mut run = synthetic::run(1);
    assert!(page(&run).contains("<dt>GPU</dt><dd>none used</dd>"));
    let gpu = Gpu { driver: Some("570.1 <b>".into()), memory_clock_mhz: Some(2619), ..Gpu::default() };
    run.environment.gpu = Some(gpu);
    let page = page(&run);
    for wanted in
        ["<dt>GPU: driver</dt><dd>570.1 &lt;b&gt;</dd>", "<dt>GPU: memory clock mhz</dt><dd>2619</dd>"]
    {
        assert!(page.contains(wanted), "{wanted}");
    }
}

#[test]
fn the_cores_of_a_hybrid_processor_are_told_apart() {
    let mut run = synthetic::run(1);
    run.environment.core_kinds.clear();
    assert!(!page(&run).contains("efficiency cores"));
    let kind = |class, siblings: &[&str]| CoreKind {
        class: Some(class),
        siblings: siblings.iter().map(|s| s.to_string()).collect(),
    };
    run.environment.core_kinds =
        vec![kind(CoreClass::Performance, &["0-1", "2-3"]), kind(CoreClass::Efficiency, &["4", "5", "6"])];
    let page = page(&run);
    for wanted in ["<dt>performance cores</dt><dd>2</dd>", "<dt>efficiency cores</dt><dd>3</dd>"] {
        assert!(page.contains(wanted), "{wanted}");
    }
}

/// One sample, and none: a page all the same.
#[test]
fn a_run_with_little_in_it_has_a_page() {
    assert!(page(&synthetic::run_at(1, &[64])).contains("<figure"));
    let mut run = synthetic::run(1);
    run.samples.clear();
    run.ledger.clear();
    assert!(!page(&run).contains("<figure"));
}
