//! The figures of all runs.

use std::collections::BTreeMap;

use crate::contenders::programs::Contender;
use crate::error::Result;
use crate::instruments::machine::Machine;
use crate::instruments::stats::{Spread, median};
use crate::measure::cache::{CacheStep, CacheStorage, Times};
use crate::measure::cases::{CASES, Case};
use crate::measure::run::{CaseRun, IdleUsage};

/// The figures of all runs, by case and contender.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) shrink: usize,
    runs: BTreeMap<(&'static str, Contender), Vec<CaseRun>>,
    starts: BTreeMap<Contender, Vec<f64>>,
    idle: BTreeMap<Contender, IdleUsage>,
    /// The size of `hello`, in bytes.
    pub(crate) hello: Option<u64>,
    pub(crate) cache: Times,
}

impl Findings {
    pub(crate) fn new(rounds: usize, shrink: usize) -> Result<Self> {
        Ok(Self {
            machine: Machine::this()?,
            rounds,
            shrink,
            runs: BTreeMap::new(),
            starts: BTreeMap::new(),
            idle: BTreeMap::new(),
            hello: None,
            cache: Times::new(),
        })
    }

    pub(crate) fn add(&mut self, case: &Case, contender: Contender, run: Option<CaseRun>) {
        if let Some(run) = run {
            self.runs
                .entry((case.name, contender))
                .or_default()
                .push(run);
        }
    }

    pub(crate) fn started(&mut self, contender: Contender, took: f64, idle: Option<IdleUsage>) {
        self.starts.entry(contender).or_default().push(took);
        self.idle.extend(idle.map(|idle| (contender, idle)));
    }

    /// Returns the contenders that the tables show: all of them, but `Before` only if it was measured.
    pub(crate) fn contenders(&self) -> impl Iterator<Item = Contender> {
        let before = self
            .runs
            .keys()
            .map(|(_, contender)| contender)
            .chain(self.starts.keys())
            .any(|contender| *contender == Contender::Before);
        Contender::ALL
            .into_iter()
            .filter(move |contender| before || *contender != Contender::Before)
    }

    /// Returns the cases that were measured.
    pub(crate) fn cases(&self) -> impl Iterator<Item = &'static Case> {
        let measured = |case: &&Case| self.runs.contains_key(&(case.name, Contender::Ours));
        CASES.iter().filter(measured)
    }

    pub(crate) fn runs(&self, case: &'static str, contender: Contender) -> &[CaseRun] {
        self.runs.get(&(case, contender)).map_or(&[], Vec::as_slice)
    }

    /// Returns the median of one figure.
    pub(crate) fn median(
        &self,
        case: &'static str,
        contender: Contender,
        figure: impl Fn(&CaseRun) -> Option<f64>,
    ) -> Option<f64> {
        let figures: Vec<f64> = self
            .runs(case, contender)
            .iter()
            .filter_map(figure)
            .collect();
        median(&figures)
    }

    pub(crate) fn per_second(&self, case: &'static str, contender: Contender) -> Option<f64> {
        self.median(case, contender, |run| Some(run.per_second))
    }

    pub(crate) fn cpu(&self, case: &'static str, contender: Contender) -> Option<f64> {
        self.median(case, contender, |run| Some(run.cpu))
    }

    pub(crate) fn peak(&self, case: &'static str, contender: Contender) -> Option<f64> {
        self.median(case, contender, |run| Some(run.peak))
    }

    /// Returns the medians of both percentiles, in seconds.
    pub(crate) fn spread(
        &self,
        case: &'static str,
        contender: Contender,
        spread: impl Fn(&CaseRun) -> Option<Spread>,
    ) -> Option<(f64, f64)> {
        #[expect(clippy::cast_precision_loss, reason = "less than a year")]
        let seconds = |nanos: i64| nanos as f64 / 1e9;
        Some((
            self.median(case, contender, |run| Some(seconds(spread(run)?.p50)))?,
            self.median(case, contender, |run| Some(seconds(spread(run)?.p99)))?,
        ))
    }

    /// Returns the time from process start to first take, in seconds.
    pub(crate) fn start(&self, contender: Contender) -> Option<f64> {
        median(self.starts.get(&contender)?)
    }

    /// Returns the time of a step of the cache, in seconds.
    pub(crate) fn cache(
        &self,
        place: CacheStorage,
        step: CacheStep,
        contender: Contender,
    ) -> Option<f64> {
        median(self.cache.get(&(place, step, contender))?)
    }

    pub(crate) fn idle(&self, contender: Contender) -> Option<IdleUsage> {
        self.idle.get(&contender).copied()
    }
}
