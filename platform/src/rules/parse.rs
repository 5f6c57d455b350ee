//! The text form of rules, as in `--rules`.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use podwork_protocol::JobStatus;

use super::{CallRate, Rules};
use crate::error::Error;
use crate::units::{bytes, duration, durations};

impl FromStr for Rules {
    type Err = Error;

    /// Parses comma-separated `name=value` pairs, which override the defaults. The names are those of the fields. A
    /// size is a number of bytes or `10MB`; a duration is `250ms`, `90s`, `5m`, `24h` or `7d`; a rate is a number of
    /// calls per second, or `1000/10s`; 0 is no limit of a rate or of concurrent calls. `wait_range=1s..5m` sets the
    /// range of `wait`; `ttl_range` and `execution_timeout_range` work in the same way. `webhook_pauses=5s/15s` sets
    /// two pauses. The word `current` stands for the rules that [`Rules::current`] sets; pairs after it override them.
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::default().with(text)
    }
}

impl Rules {
    /// Returns these rules with changes, in the syntax of [`from_str`](Self::from_str).
    ///
    /// # Errors
    /// Returns an error if a pair is not a valid rule.
    pub fn with(mut self, text: &str) -> Result<Self, Error> {
        for pair in text.split(',').map(str::trim) {
            match pair {
                "" => {}
                "current" => self = self.with_current(),
                _ => self.set(pair).ok_or_else(|| Error::Rule(pair.to_owned()))?,
            }
        }
        Ok(self)
    }

    fn set(&mut self, pair: &str) -> Option<()> {
        let (name, value) = pair.split_once('=')?;
        match name {
            "run_payload" => self.run_payload = bytes(value)?,
            "runsync_payload" => self.runsync_payload = bytes(value)?,
            "chunk" => self.chunk = bytes(value)?,
            "stream_buffer" => self.stream_buffer = bytes(value)?,
            "run_rate" => set_rate(&mut self.run_rate, value)?,
            "runsync_rate" => set_rate(&mut self.runsync_rate, value)?,
            "status_rate" => set_rate(&mut self.status_rate, value)?,
            "stream_rate" => set_rate(&mut self.stream_rate, value)?,
            "cancel_rate" => set_rate(&mut self.cancel_rate, value)?,
            "purge_rate" => set_rate(&mut self.purge_rate, value)?,
            "calls_per_worker" => self.calls_per_worker = value.parse().ok()?,
            "run_concurrency" => set_limit(&mut self.run_concurrency, value)?,
            "runsync_concurrency" => set_limit(&mut self.runsync_concurrency, value)?,
            "status_concurrency" => set_limit(&mut self.status_concurrency, value)?,
            "stream_concurrency" => set_limit(&mut self.stream_concurrency, value)?,
            "cancel_concurrency" => set_limit(&mut self.cancel_concurrency, value)?,
            "run_retention" => self.run_retention = duration(value)?,
            "runsync_retention" => self.runsync_retention = duration(value)?,
            "wait" => self.wait.default = duration(value)?,
            "wait_range" => self.wait.range = durations(value)?,
            "execution_timeout" => self.execution_timeout.default = duration(value)?,
            "execution_timeout_range" => self.execution_timeout.range = durations(value)?,
            "ttl" => self.ttl.default = duration(value)?,
            "ttl_range" => self.ttl.range = durations(value)?,
            "poll_hold" => self.poll_hold = duration(value)?,
            "stream_hold" => self.stream_hold = duration(value)?,
            "silence" => self.silence = duration(value)?,
            "tries" => self.tries = value.parse().ok().filter(|tries| *tries > 0)?,
            "lost_error" if !value.is_empty() => value.clone_into(&mut self.lost_error),
            "strip_empty_input" => self.strip_empty_input = value.parse().ok()?,
            "webhook_pauses" => self.webhook_pauses = pauses(value)?,
            "running_word" => self.running_word = running_word(value)?,
            "workers" => self.workers = value.parse().ok().filter(|workers| *workers > 0)?,
            "jobs" => self.jobs = value.parse().ok().filter(|jobs| *jobs > 0)?,
            _ => return None,
        }
        Some(())
    }
}

/// Sets a limit on concurrent calls; 0 is no limit.
fn set_limit(limit: &mut Option<NonZeroU32>, text: &str) -> Option<()> {
    *limit = NonZeroU32::new(text.parse().ok()?);
    Some(())
}

/// Sets a rate: `20` per second, or `1000/10s`; 0 is no limit.
fn set_rate(rate: &mut Option<CallRate>, text: &str) -> Option<()> {
    let (calls, period) = match text.split_once('/') {
        Some((calls, period)) => (calls, duration(period).filter(|period| !period.is_zero())?),
        None => (text, Duration::from_secs(1)),
    };
    let calls = NonZeroU32::new(calls.parse().ok()?);
    *rate = calls.map(|calls| CallRate { calls, period });
    Some(())
}

/// Parses the pauses between the tries of a webhook call, such as `5s/15s`. An empty text stands for no further try.
fn pauses(text: &str) -> Option<Vec<Duration>> {
    let pauses = text.split('/').filter(|pause| !pause.is_empty());
    pauses.map(duration).collect()
}

/// Parses the status word of a running job: capital letters and `_`, and no word of another status.
fn running_word(text: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    let others = [
        JobStatus::InQueue,
        JobStatus::Completed,
        JobStatus::Failed,
        JobStatus::Cancelled,
        JobStatus::TimedOut,
    ];
    let is_word = !text.is_empty() && text.bytes().all(fits);
    let is_other = others.iter().any(|status| status.as_str() == text);
    (is_word && !is_other).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use podwork_protocol::limits;

    use super::*;
    use crate::rules::Span;

    #[test]
    fn rules_are_read() {
        let rules: Rules = "run_rate=0, chunk=2KB,wait_range=10ms..2s,silence=1.5s,workers=1"
            .parse()
            .unwrap();
        let expected = Rules {
            run_rate: None,
            chunk: 2048,
            wait: Span {
                default: limits::DEFAULT_WAIT,
                range: Duration::from_millis(10)..=Duration::from_secs(2),
            },
            silence: Duration::from_millis(1500),
            workers: 1,
            ..Rules::default()
        };
        assert_eq!(rules, expected);
        assert_eq!("".parse::<Rules>().unwrap(), Rules::default());
        for bad in [
            "run_rate",
            "run_rate=-1",
            "run_rate=10/0s",
            "run_rate=10/10",
            "run_concurrency=some",
            "calls_per_worker=-1",
            "ttl=5",
            "tries=0",
            "x=1",
            "wait_range=2s..1s",
            "strip_empty_input=1",
            "webhook_pauses=5s/x",
            "lost_error=",
            "running_word=",
            "running_word=running",
            "running_word=COMPLETED",
            "newest",
        ] {
            let said = bad.parse::<Rules>().unwrap_err().to_string();
            assert!(said.starts_with(&format!("invalid rule `{bad}`")), "{said}");
        }
    }

    #[test]
    fn the_preset_keeps_all_other_rules_and_may_be_changed() {
        let current: Rules = "current".parse().unwrap();
        assert_eq!(current, Rules::current());
        let texts = "run_rate=1000/10s,run_concurrency=200,runsync_rate=2000/10s,runsync_concurrency=400,\
                     status_rate=2000/10s,status_concurrency=400,stream_rate=2000/10s,stream_concurrency=400,\
                     cancel_rate=100/10s,cancel_concurrency=20,purge_rate=2/10s,calls_per_worker=50,silence=40s,\
                     tries=2,lost_error=job timed out after {retries} retries,webhook_pauses=5s/15s";
        assert_eq!(current, texts.parse().unwrap());
        let changed: Rules = "chunk=1KB,tries=9,current,run_rate=7".parse().unwrap();
        let calls = NonZeroU32::new(7).unwrap();
        let expected = Rules {
            chunk: 1024,
            run_rate: Some(CallRate::per_second(calls)),
            ..Rules::current()
        };
        assert_eq!(changed, expected);
        // Rules for the tests of clients belong to no preset.
        let default = Rules::default();
        assert_eq!(current.running_word, default.running_word);
        assert_eq!(current.strip_empty_input, default.strip_empty_input);
    }

    #[test]
    fn a_webhook_call_may_have_any_number_of_tries() {
        let pauses = |text: &str| {
            let rules: Rules = format!("webhook_pauses={text}").parse().unwrap();
            rules.webhook_pauses
        };
        assert_eq!(pauses(""), []);
        assert_eq!(pauses("1m"), [Duration::from_mins(1)]);
        assert_eq!(pauses("1s/2s/3s").len(), 3);
    }
}
