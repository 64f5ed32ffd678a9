//! How a sample was taken, and in which round.

use std::fmt;
use std::str::FromStr;

/// Samples of one round were taken close together, strategies in turn, so that their ratio is free of drift.
/// Rounds are numbered from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Round {
    /// In none: a sample by itself (criterion's repetitions, the phases of a cold start), or a count.
    Single,
    /// One position, each strategy's step from a copy of its session.
    Interleaved(u32),
    /// A decode of each strategy, step after step, or the end of one.
    Decode(u32),
}

/// The name of a kind of round, as samples.csv has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// [`Round::Single`]
    Single,
    /// [`Round::Interleaved`]
    Interleaved,
    /// [`Round::Decode`]
    Decode,
}

/// Files of earlier versions have no column for the protocol: their rounds of decodes begin here.
const FIRST_DECODE: u32 = 101;

impl Round {
    /// How the samples of the round were taken.
    pub fn protocol(self) -> Protocol {
        match self {
            Round::Single => Protocol::Single,
            Round::Interleaved(_) => Protocol::Interleaved,
            Round::Decode(_) => Protocol::Decode,
        }
    }

    /// From 1 on; 0 outside of rounds.
    pub fn number(self) -> u32 {
        match self {
            Round::Single => 0,
            Round::Interleaved(number) | Round::Decode(number) => number,
        }
    }

    /// Whether it is a round of whole decodes.
    pub fn is_decode(self) -> bool {
        self.protocol() == Protocol::Decode
    }

    /// `None`: there is no such round.
    pub(super) fn new(protocol: Protocol, number: u32) -> Option<Round> {
        match (protocol, number) {
            (Protocol::Single, 0) => Some(Round::Single),
            (Protocol::Interleaved, 1..) => Some(Round::Interleaved(number)),
            (Protocol::Decode, 1..) => Some(Round::Decode(number)),
            _ => None,
        }
    }

    /// Protocol and round in one number, as files of earlier versions have it and as citations count it.
    pub fn code(self) -> u32 {
        match self {
            Round::Single | Round::Interleaved(_) => self.number(),
            Round::Decode(number) => FIRST_DECODE - 1 + number,
        }
    }

    pub(crate) fn of_code(code: u32) -> Round {
        match code {
            0 => Round::Single,
            FIRST_DECODE.. => Round::Decode(code - FIRST_DECODE + 1),
            number => Round::Interleaved(number),
        }
    }
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 3] = [Protocol::Single, Protocol::Interleaved, Protocol::Decode];

    /// As samples.csv has it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Single => "single",
            Protocol::Interleaved => "interleaved",
            Protocol::Decode => "decode",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(name: &str) -> Result<Protocol, String> {
        let found = Protocol::ALL.into_iter().find(|protocol| protocol.name() == name);
        found.ok_or_else(|| format!("`{name}` is no protocol: there are single, interleaved and decode"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_says_both() {
        for (round, code) in [
            (Round::Single, 0),
            (Round::Interleaved(1), 1),
            (Round::Interleaved(100), 100),
            (Round::Decode(1), 101),
            (Round::Decode(6), 106),
        ] {
            assert_eq!((round.code(), Round::of_code(code)), (code, round));
            assert_eq!(Round::new(round.protocol(), round.number()), Some(round));
            assert_eq!(round.protocol().name().parse(), Ok(round.protocol()));
        }
        assert_eq!(Round::new(Protocol::Single, 1), None);
        assert_eq!(Round::new(Protocol::Decode, 0), None);
    }
}
