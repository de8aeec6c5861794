//! Quantities of memory and CPU, in the notations of Kubernetes and Spark.
//!
//! Kubernetes writes `2Gi` (binary) or `2G` (decimal). Spark writes `2g`, which is binary. The case distinguishes them:
//! a lower-case `k`, `m`, `g` or `t` is Spark's, an upper-case one Kubernetes'. `K` is neither, and is refused.

use std::fmt;
use std::ops::Add;

const KI: u64 = 1 << 10;
const MI: u64 = 1 << 20;

/// Kubernetes' binary suffixes and their factors, from the largest.
const BINARY_UNITS: [(&str, u64); 5] = [
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", MI),
    ("Ki", KI),
];
/// Kubernetes' decimal suffixes, from the largest. `e3` is its other way to write `k`, which is Spark's here.
const DECIMAL_UNITS: [(&str, u64); 5] = [
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("e3", 1000),
];
/// Spark's suffixes; one comes before any that it ends with.
const SPARK_UNITS: [(&str, u64); 8] = [
    ("kb", KI),
    ("mb", MI),
    ("gb", 1 << 30),
    ("tb", 1 << 40),
    ("k", KI),
    ("m", MI),
    ("g", 1 << 30),
    ("t", 1 << 40),
];

/// A text that is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("`{0}` is not an amount of memory")]
    NotMemory(String),
    #[error("`{0}` is not an amount of memory in Spark's notation")]
    NotSparkMemory(String),
    #[error("`{0}` has no unit; as bytes it is too little memory")]
    UnitMissing(String),
    #[error("`{0}` is less than a mebibyte")]
    TooLittle(String),
    #[error("`{0}` is not an amount of CPU")]
    NotCpu(String),
}

impl QuantityError {
    /// The remedy.
    pub fn help(&self) -> String {
        match self {
            QuantityError::NotMemory(_) => "write it like 2Gi or 512Mi (Kubernetes), or like 2g or 512m (Spark)".into(),
            QuantityError::NotSparkMemory(_) => "write a whole number with a unit, like 2g or 1536m".into(),
            QuantityError::UnitMissing(text) => format!("did you mean {text}Gi or {text}Mi?"),
            QuantityError::TooLittle(_) => "write it like 2Gi or 512Mi".into(),
            QuantityError::NotCpu(_) => "write it like 2, 1.5 or 1500m".into(),
        }
    }
}

/// An amount of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory(u64);

impl Memory {
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(MI))
    }

    /// Parses either notation.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError::NotMemory(text.to_owned());
        let (number, unit) = BINARY_UNITS
            .iter()
            .chain(&DECIMAL_UNITS)
            .chain(&SPARK_UNITS)
            .find_map(|&(suffix, unit)| Some((text.strip_suffix(suffix)?, Some(unit))))
            .unwrap_or((text, None));
        let bytes = decimal(number).ok_or_else(error)? * unit.unwrap_or(1) as f64;
        if !bytes.is_finite() || bytes >= u64::MAX as f64 {
            return Err(error());
        }
        if bytes < MI as f64 {
            return Err(match unit {
                None if bytes > 0.0 => QuantityError::UnitMissing(text.to_owned()),
                _ => QuantityError::TooLittle(text.to_owned()),
            });
        }
        Ok(Self(bytes.ceil() as u64))
    }

    /// Parses as Spark parses `spark.executor.memory`: a whole number, in MiB without a unit. Units are case-insensitive.
    pub fn parse_spark(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError::NotSparkMemory(text.to_owned());
        let lower = text.trim().to_lowercase();
        let unit = lower.trim_start_matches(|c: char| c.is_ascii_digit());
        if unit.is_empty() {
            return lower.parse().map(Self::from_mib).map_err(|_| error());
        }
        match unit.len() < lower.len() && SPARK_UNITS.iter().any(|(suffix, _)| *suffix == unit) {
            true => Self::parse(&lower),
            false => Err(error()),
        }
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Whole MiB, rounded down.
    pub const fn mib(self) -> u64 {
        self.0 / MI
    }

    /// In Spark's notation, in whole MiB rounded down: `1338m`.
    pub fn spark(self) -> String {
        format!("{}m", self.mib())
    }

    /// This fraction of the amount.
    pub fn share(self, share: f64) -> Self {
        Self((self.0 as f64 * share) as u64)
    }

    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for Memory {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// Kubernetes' canonical form, which the API server returns unchanged: the largest binary unit that divides the amount, or else the largest
/// decimal one.
impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BINARY_UNITS
            .iter()
            .chain(&DECIMAL_UNITS)
            .find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit))
        {
            Some((suffix, unit)) => write!(f, "{}{suffix}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

/// An amount of CPU, in millicores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpu(u32);

impl Cpu {
    pub const fn from_millis(millis: u32) -> Self {
        Self(millis)
    }

    pub const fn from_cores(cores: u32) -> Self {
        Self(cores.saturating_mul(1000))
    }

    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let millis = match text.strip_suffix('m') {
            Some(number) => decimal(number),
            None => decimal(text).map(|cores| cores * 1000.0),
        };
        match millis {
            Some(millis) if millis > 0.0 && millis <= f64::from(u32::MAX) => Ok(Self(millis.ceil() as u32)),
            _ => Err(QuantityError::NotCpu(text.to_owned())),
        }
    }

    pub const fn millis(self) -> u32 {
        self.0
    }

    /// Whole cores, rounded down.
    pub const fn cores(self) -> u32 {
        self.0 / 1000
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 1000 {
            0 => write!(f, "{}", self.0 / 1000),
            _ => write!(f, "{}m", self.0),
        }
    }
}

/// A non-negative decimal number. Rust would also parse `inf`, `NaN` and signs.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_notations_are_parsed() {
        let parse = |text| Memory::parse(text).unwrap().0;
        assert_eq!(parse("2Gi"), 2 << 30);
        assert_eq!(parse("2g"), 2 << 30);
        assert_eq!(parse("2gb"), 2 << 30);
        assert_eq!(parse("2G"), 2_000_000_000);
        assert_eq!(parse("512m"), 512 << 20);
        assert_eq!(parse("1.5Gi"), 3 << 29);
        assert_eq!(parse("2147483648"), 2 << 30);
        assert_eq!(parse("2e9"), 2_000_000_000);
        assert_eq!(Cpu::parse("1.5").unwrap(), Cpu(1500));
        assert_eq!(Cpu::parse("250m").unwrap(), Cpu(250));
    }

    #[test]
    fn invalid_quantities_are_refused() {
        for text in ["", "Gi", "-1Gi", "2 Gi", "inf", "NaN", "two", "1e400", "2gi", "1024K"] {
            assert_eq!(
                Memory::parse(text),
                Err(QuantityError::NotMemory(text.into())),
                "{text}"
            );
        }
        assert_eq!(Memory::parse("2"), Err(QuantityError::UnitMissing("2".into())));
        for text in ["0Gi", "0", "0.5k", "100Ki"] {
            assert_eq!(
                Memory::parse(text),
                Err(QuantityError::TooLittle(text.into())),
                "{text}"
            );
        }
        assert_eq!(Cpu::parse("0"), Err(QuantityError::NotCpu("0".into())));
        assert_eq!(Cpu::parse("1g"), Err(QuantityError::NotCpu("1g".into())));
    }

    #[test]
    fn spark_takes_whole_numbers() {
        let parse = |text: &str| Memory::parse_spark(text).map(Memory::mib);
        for (text, mib) in [("1g", 1024), ("1G", 1024), (" 1536MB ", 1536), ("2048", 2048), ("0", 0)] {
            assert_eq!(parse(text), Ok(mib), "{text}");
        }
        for text in ["1.5g", "1.5", ".5g", "2Gi", "2e3", "+5", "-1g", "g", ""] {
            assert_eq!(parse(text), Err(QuantityError::NotSparkMemory(text.into())), "{text}");
        }
    }

    #[test]
    fn amounts_are_displayed_as_the_api_server_returns_them() {
        let displayed = |text| Memory::parse(text).unwrap().to_string();
        for text in [
            "1Gi",
            "1536Mi",
            "3906250Ki",
            "3G",
            "2500M",
            "1500001e3",
            "1000000001",
            "1Pi",
        ] {
            assert_eq!(displayed(text), text);
        }
        for (text, canonical) in [
            ("3000000000", "3G"),
            ("2.5G", "2500M"),
            ("4G", "3906250Ki"),
            ("1.5Gi", "1536Mi"),
            ("3e9", "3G"),
            ("1000.5M", "1000500e3"),
        ] {
            assert_eq!(displayed(text), canonical, "{text}");
        }
    }

    proptest! {
        #[test]
        fn displayed_memory_parses_back(bytes in MI..(1 << 52)) {
            prop_assert_eq!(Memory::parse(&Memory(bytes).to_string()), Ok(Memory(bytes)));
        }

        #[test]
        fn displayed_decimal_memory_parses_back(number in 1100..1_000_000_u64, zeros in 3..9u32) {
            let memory = Memory(number * 10_u64.pow(zeros));
            prop_assert_eq!(Memory::parse(&memory.to_string()), Ok(memory));
        }

        #[test]
        fn displayed_cpu_parses_back(millis in 1..10_000_000u32) {
            prop_assert_eq!(Cpu::parse(&Cpu(millis).to_string()), Ok(Cpu(millis)));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (Memory::parse(&text), Memory::parse_spark(&text), Cpu::parse(&text));
        }
    }
}
