//! One figure as `docs/benchmarks/*.json` have it, over all rounds.

use serde_json::{Value, json};

/// Lowest, middle and highest of the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

/// A bench at one size, beside one peer or none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) bench: String,
    pub(crate) n: u64,
    pub(crate) peer: Option<String>,
    pub(crate) unit: String,
    pub(crate) rounds: u64,
    pub(crate) ours: Spread,
    /// The peer's, and ours divided by it, round by round.
    pub(crate) beside: Option<(Spread, Spread)>,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        Self {
            min: at(0),
            median: at(sorted.len() / 2),
            max: at(sorted.len().saturating_sub(1)),
        }
    }

    fn json(self, digits: u32) -> Value {
        let scale = 10_f64.powi(digits.cast_signed());
        let rounded = |value: f64| (value * scale).round() / scale;
        json!({"min": rounded(self.min), "median": rounded(self.median), "max": rounded(self.max)})
    }

    fn read(value: &Value) -> Option<Self> {
        let number = |name| value[name].as_f64();
        Some(Self {
            min: number("min")?,
            median: number("median")?,
            max: number("max")?,
        })
    }
}

impl Record {
    /// Without a peer.
    pub(crate) fn alone(bench: &str, n: u64, unit: &str, ours: &[f64]) -> Self {
        Self {
            bench: bench.to_owned(),
            n,
            peer: None,
            unit: unit.to_owned(),
            rounds: ours.len() as u64,
            ours: Spread::of(ours),
            beside: None,
        }
    }

    /// Beside a peer: one value of each for every round.
    pub(crate) fn beside(
        bench: &str,
        n: u64,
        unit: &str,
        ours: &[f64],
        (peer, theirs): (&str, &[f64]),
    ) -> Self {
        let ratios: Vec<f64> = ours
            .iter()
            .zip(theirs)
            .map(|(ours, theirs)| ours / theirs)
            .collect();
        Self {
            peer: Some(peer.to_owned()),
            beside: Some((Spread::of(theirs), Spread::of(&ratios))),
            ..Self::alone(bench, n, unit, ours)
        }
    }

    /// Whether both say the same thing, of this run or an earlier one.
    pub(crate) fn same_figure(&self, other: &Self) -> bool {
        (&self.bench, self.n, &self.peer) == (&other.bench, other.n, &other.peer)
    }

    pub(crate) fn json(&self) -> Value {
        let mut json = json!({
            "bench": self.bench,
            "n": self.n,
            "peer": self.peer,
            "unit": self.unit,
            "rounds": self.rounds,
            "sortie": self.ours.json(1),
        });
        if let Some((other, ratio)) = self.beside {
            json["other"] = other.json(1);
            json["ratio"] = ratio.json(3);
        }
        json
    }

    pub(crate) fn read(value: &Value) -> Option<Self> {
        let other = Spread::read(&value["other"]);
        Some(Self {
            bench: value["bench"].as_str()?.to_owned(),
            n: value["n"].as_u64()?,
            peer: value["peer"].as_str().map(str::to_owned),
            unit: value["unit"].as_str()?.to_owned(),
            rounds: value["rounds"].as_u64()?,
            ours: Spread::read(&value["sortie"])?,
            beside: other.zip(Spread::read(&value["ratio"])),
        })
    }
}
