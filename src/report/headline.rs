//! Findings in words: one sentence each, measured and predicted side by side.

use crate::analysis::{Answer, Finding, Prediction, Question};
use crate::record::Protocol;
use crate::units::{interval, Quantity};

/// `padded beats concat from position 182 [128, 192] on (predicted: 172, measured 1.06 × that).`
pub fn sentence(finding: &Finding) -> String {
    let said = match finding.question {
        Question::BeatsFrom { first, second } => beats(finding, &first.to_string(), &second.to_string()),
        Question::BytesWhereBeaten { first, second } => {
            format!("{second}'s cache holds {} where {first} begins to beat it", number(finding))
        }
        Question::BestChunk { tokens, compiler } => format!(
            "{tokens} tokens take least, compiled by {compiler} and run on {}, with chunks of {} positions",
            finding.group.backend,
            number(finding)
        ),
    };
    let opposite = finding.disagrees_at.map_or_else(String::new, |t| match finding.disagrees_by {
        Some(Protocol::Decode) => format!("; the steps at position {t} say the opposite"),
        _ => format!("; in whole decodes: interleaved steps say the opposite at position {t}"),
    });
    format!("{said}{}{opposite}.", predicted(finding))
}

fn beats(finding: &Finding, first: &str, second: &str) -> String {
    let Finding { answer, from, to, .. } = finding;
    let range = format!("positions {from} to {to}");
    match answer {
        Answer::At { .. } => format!("{first} beats {second} from position {} on", number(finding)),
        Answer::Until { .. } => format!("{first} beats {second} only up to position {}", number(finding)),
        Answer::Always => format!("{first} beats {second} wherever it was measured, {range}"),
        Answer::Never => format!("{first} does not beat {second} anywhere, {range}"),
        Answer::Overall => {
            format!("{first} beats {second} over {range} together; from which on is undecided")
        }
        Answer::NotOverall => {
            format!("{second} beats {first} over {range} together; from which on is undecided")
        }
        Answer::Undecided => format!("whether {first} beats {second} is undecided, {range}"),
    }
}

/// `115 [102, 128]`, in the unit of the question.
fn number(finding: &Finding) -> String {
    match finding.answer {
        Answer::At { value, lo, hi } | Answer::Until { value, lo, hi } => {
            let range = interval(lo.map(|lo| show(finding, lo)), hi.map(|hi| show(finding, hi)));
            format!("{} [{range}]", show(finding, value))
        }
        Answer::Always | Answer::Never | Answer::Overall | Answer::NotOverall | Answer::Undecided => {
            String::new()
        }
    }
}

fn show(finding: &Finding, x: f64) -> String {
    match finding.question {
        Question::BytesWhereBeaten { .. } => Quantity::Bytes.show(x),
        Question::BeatsFrom { .. } | Question::BestChunk { .. } => format!("{x:.0}"),
    }
}

fn predicted(finding: &Finding) -> String {
    match (finding.predicted, finding.measured_over_predicted) {
        (None, _) => String::new(),
        (Some(Prediction::Always), _) => " (predicted: from the first position on)".into(),
        (Some(Prediction::Never), _) => " (predicted: never)".into(),
        (Some(Prediction::At { value }), None) => format!(" (predicted: {})", show(finding, value)),
        (Some(Prediction::At { value }), Some(ratio)) => {
            format!(
                " (predicted: {}, measured {} that)",
                show(finding, value),
                Quantity::Multiple.show(ratio)
            )
        }
    }
}
