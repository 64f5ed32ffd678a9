//! One suite on many machines: a [`Plan`] says which machine measures what, and [`merge`] makes one run out
//! of theirs.
//!
//! A plan follows from the filter and the number of shards alone, so every machine makes it by itself and
//! all make the same. Cases that are compared side by side stay together, for ratios are formed between
//! samples of one round; so do the whole decodes of a model on a backend, which go with the last of its
//! groups of one sentence.

pub mod merge;

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::case::Case;
use crate::cost::Step;
use crate::error::{Error, Result};
use crate::suite;

/// More machines than anybody has.
const MOST_SHARDS: usize = 10_000;

/// What is measured together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseGroup {
    /// They differ in nothing but the strategy.
    pub cases: Vec<Case>,
    /// What is decoded along with them, at the last position: see `suite::decodes`.
    pub decodes: Vec<Case>,
    /// About how long it takes, in operations at full speed.
    pub cost: u64,
}

/// A suite dealt out to shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    shards: Vec<Vec<CaseGroup>>,
}

/// `2/8`: the second of eight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1 on.
    pub shard: usize,
    /// How many shards there are.
    pub of: usize,
}

impl Plan {
    /// The cases that a filter selects ([`suite::select`]), dealt out: the longest group first, each to the
    /// shard that has least.
    ///
    /// # Errors
    /// When a shard would be left without work.
    pub fn new(filter: Option<&str>, shards: usize) -> Result<Plan> {
        Plan::deal(&groups_of(&suite::select(filter)?)?, shards)
    }

    fn deal(groups: &[CaseGroup], shards: usize) -> Result<Plan> {
        if !(1..=groups.len()).contains(&shards) {
            let most = groups.len();
            return Err(Error::Input(format!(
                "{shards} shards: these cases make 1 to {most} groups to deal out"
            )));
        }
        let mut order: Vec<usize> = (0..groups.len()).collect();
        order.sort_by_key(|&group| Reverse(groups[group].cost));
        let mut dealt: Vec<Vec<usize>> = vec![Vec::new(); shards];
        let mut load = vec![0; shards];
        for group in order {
            let least = (0..shards).min_by_key(|&shard| load[shard]).expect("there is one");
            load[least] += groups[group].cost;
            dealt[least].push(group);
        }
        let in_suite_order = |mut shard: Vec<usize>| {
            shard.sort();
            shard.into_iter().map(|group| groups[group].clone()).collect()
        };
        Ok(Plan { shards: dealt.into_iter().map(in_suite_order).collect() })
    }

    /// How many there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// What a shard, counted from 1, measures: groups of one model on one backend next to each other.
    pub fn groups(&self, shard: usize) -> &[CaseGroup] {
        &self.shards[shard - 1]
    }

    /// Names the plan: the first 64 bits of the SHA-256 of all it says.
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        for (shard, groups) in self.shards.iter().enumerate() {
            for group in groups {
                for case in group.cases.iter().chain(&group.decodes) {
                    hash.update(format!("{shard} {case}\n"));
                }
                hash.update("\n");
            }
        }
        hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn groups_of(cases: &[Case]) -> Result<Vec<CaseGroup>> {
    let mut groups = Vec::new();
    for fixture in cases.chunk_by(suite::same_fixture) {
        groups.extend(groups_of_fixture(fixture)?);
    }
    Ok(groups)
}

fn groups_of_fixture(fixture: &[Case]) -> Result<Vec<CaseGroup>> {
    let (whole, ends) = suite::decodes(fixture);
    let mut decodes = [whole, ends].concat();
    let mut groups = Vec::new();
    for cases in fixture.chunk_by(suite::side_by_side).rev() {
        let decodes = if cases[0].batch == 1 { std::mem::take(&mut decodes) } else { Vec::new() };
        groups.push(CaseGroup { cost: cost(cases, &decodes)?, cases: cases.to_vec(), decodes });
    }
    groups.reverse();
    Ok(groups)
}

/// Of all rounds; a round of short steps repeats them for some milliseconds.
fn cost(cases: &[Case], decodes: &[Case]) -> Result<u64> {
    const SAMPLE: u64 = 600_000_000; // 4 ms at 150 GFLOP/s
    const TAKEN: u64 = 2 * 12;
    const DECODED: u64 = 12;
    let mut cost = 0;
    for case in cases {
        cost += TAKEN * Step::of(case)?.estimate().max(SAMPLE);
    }
    for case in decodes {
        for position in 1..=case.position {
            cost += DECODED * Step::of(&case.at(position))?.estimate();
        }
    }
    Ok(cost)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.shard, self.of)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        let place = parts.map(|(shard, of)| Place { shard, of });
        place.filter(|p| (1..=p.of).contains(&p.shard) && p.of <= MOST_SHARDS).ok_or_else(|| {
            format!("`{text}` is no shard; one looks like 2/8, from 1/8 to 8/8, of at most {MOST_SHARDS}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of every filter and number of shards: every case once, compared cases together, shards in balance.
    #[test]
    fn plans_are_complete_disjoint_and_balanced() {
        for filter in
            [None, Some("^transformer-.*/cpu/"), Some("tiny/.*/cpu/b3"), Some("gpt2/(concat|padded)")]
        {
            let cases = suite::select(filter).unwrap();
            let most = cases.chunk_by(suite::side_by_side).count();
            let dealt = groups_of(&cases).unwrap();
            assert_eq!(
                Plan::new(filter, most).unwrap(),
                Plan::deal(&dealt, most).unwrap(),
                "always the same"
            );
            for shards in 1..=most {
                let plan = Plan::deal(&dealt, shards).unwrap();
                let groups: Vec<&CaseGroup> = (1..=shards).flat_map(|shard| plan.groups(shard)).collect();
                assert!((1..=shards).all(|shard| !plan.groups(shard).is_empty()), "{filter:?} {shards}");
                assert_eq!(groups.len(), most, "compared cases are together");
                assert!(groups.iter().all(|g| g.cases.iter().all(|c| suite::side_by_side(c, &g.cases[0]))));
                let mut dealt: Vec<Case> = groups.iter().flat_map(|group| group.cases.clone()).collect();
                dealt.sort();
                let mut wanted = cases.clone();
                wanted.sort();
                assert_eq!(dealt, wanted, "every case once");
                let mut decodes: Vec<Case> = groups.iter().flat_map(|group| group.decodes.clone()).collect();
                let all = decodes.len();
                decodes.sort();
                decodes.dedup();
                assert_eq!(decodes.len(), all, "every whole decode once");
                let load: Vec<u64> = (1..=shards)
                    .map(|shard| plan.groups(shard).iter().map(|group| group.cost).sum())
                    .collect();
                let largest = groups.iter().map(|group| group.cost).max().unwrap();
                let (least, most) = (load.iter().min().unwrap(), load.iter().max().unwrap());
                assert!(most - least <= largest, "no move of a group would help: {load:?}");
            }
            assert!(Plan::new(filter, most + 1).is_err() && Plan::new(filter, 0).is_err());
        }
    }

    #[test]
    fn a_plan_is_named_by_what_it_says() {
        let id = |filter, shards| Plan::new(Some(filter), shards).unwrap().id();
        assert_eq!(id("tiny/.*/cpu", 2), id("tiny/(.*)/cpu", 2));
        assert_ne!(id("tiny/.*/cpu", 2), id("tiny/.*/cpu", 3));
        assert_ne!(id("tiny/.*/cpu", 2), id("tiny/concat/cpu", 2));
    }

    #[test]
    fn places_are_read_as_they_are_written() {
        assert_eq!("2/8".parse::<Place>().unwrap().to_string(), "2/8");
        for wrong in ["", "2", "0/8", "9/8", "1/0", "a/b", "-1/8", "1/10001", "1/2/3"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
