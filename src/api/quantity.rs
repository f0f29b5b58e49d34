//! Quantities of resources: `500m`, `1.5Gi`, `1e3`. Exact, in units of 10⁻⁹.
//!
//! Words: the *format* is the family of suffixes a quantity was written with (decimal, binary, exponent), and is kept when it is printed;
//! two quantities are equal when their values are, whatever their formats.
//!
//! Follows apimachinery `pkg/api/resource/quantity.go`: finer than 10⁻⁹ rounds away from zero, binary quantities are capped at
//! 2⁶³-1.
//! One difference: upstream's decimals are unbounded, ours saturate near ±1.7·10²⁹.
//! Never: floating point.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

/// Why a text is no quantity. The texts are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form at all.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The suffix does not exist.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The family of suffixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `n u m k M G T P E`
    #[default]
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`
    BinarySi,
    /// `e3`
    DecimalExponent,
}

/// Units of 10⁻⁹ in one.
const NANO: i128 = 1_000_000_000;

/// Suffixes with their powers of ten.
const DECIMAL: &[(&str, i32)] = &[("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// Suffixes with their powers of two.
const BINARY: &[(&str, u32)] = &[("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// An amount of something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    /// Never the least number there is, whose opposite there is not.
    nano: i128,
    format: Format,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity { nano: 0, format: Format::DecimalSi };

    /// Parses the text form.
    pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
        let parts = Parts::split(text)?;
        let (nano, format) = if let Some((_, exponent)) = DECIMAL.iter().find(|(suffix, _)| *suffix == parts.suffix) {
            (parts.nano(1, i64::from(*exponent)), Format::DecimalSi)
        } else if let Some((_, power)) = BINARY.iter().find(|(suffix, _)| *suffix == parts.suffix) {
            binary(parts.nano(1 << power, 0))
        } else {
            let exponent = parts.suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            let exponent = exponent.parse::<i64>().map_err(|_| QuantityError::Suffix)?;
            (parts.nano(1, exponent), Format::DecimalExponent)
        };
        Ok(Quantity { nano: if parts.negative { -nano } else { nano }, format })
    }

    /// Whole units.
    pub fn from_value(value: i64, format: Format) -> Quantity {
        Quantity { nano: i128::from(value) * NANO, format }
    }

    /// Thousandths, such as of CPUs.
    pub fn from_milli(milli: i64) -> Quantity {
        Quantity { nano: i128::from(milli) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// Thousandths, rounded away from zero, saturating.
    pub fn milli(&self) -> i64 {
        saturate(divide_up(self.nano, NANO / 1000))
    }

    /// Whole units, rounded away from zero, saturating.
    pub fn value(&self) -> i64 {
        saturate(divide_up(self.nano, NANO))
    }

    /// Whole units as the nearest double.
    pub fn approximate(&self) -> f64 {
        self.nano as f64 / NANO as f64
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// The family of suffixes it is printed with.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The wire type.
    pub fn to_api(&self) -> ApiQuantity {
        ApiQuantity(self.to_string())
    }
}

/// The parts of a quantity's text.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    /// Splits as upstream's `parseQuantityString`.
    fn split(text: &'a str) -> Result<Parts<'a>, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let (negative, rest) = match text.strip_prefix(['+', '-']) {
            Some(rest) => (text.starts_with('-'), rest),
            None => (false, text),
        };
        let digits = |text: &'a str| text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let (whole, rest) = digits(rest);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => digits(rest),
            None => ("", rest),
        };
        // Letters, then an optional sign, then digits, and nothing else.
        let tail = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let tail = tail.strip_prefix(['+', '-']).unwrap_or(tail);
        let well_formed = tail.bytes().all(|b| b.is_ascii_digit());
        if well_formed { Ok(Parts { negative, whole, fraction, suffix }) } else { Err(QuantityError::Format) }
    }

    /// The magnitude times `factor` times 10^`exponent`, in units of 10⁻⁹: finer parts round up, what is too large saturates.
    fn nano(&self, factor: i128, exponent: i64) -> i128 {
        let whole = self.whole.trim_start_matches('0');
        let fraction = self.fraction.trim_end_matches('0');
        // More digits than an i128 holds cannot change the result but by rounding.
        let kept = fraction.len().min(36usize.saturating_sub(whole.len()).min(27));
        let cut = kept < fraction.len();
        let mut digits: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes().take(kept)) {
            digits = digits.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
        }
        if digits == 0 {
            return i128::from(cut);
        }
        let digits = digits.saturating_mul(factor);
        let shift = exponent.saturating_sub(kept as i64).saturating_add(9);
        let power = u32::try_from(shift.unsigned_abs()).ok().and_then(|power| 10i128.checked_pow(power));
        match (shift >= 0, power) {
            (true, Some(power)) => digits.saturating_mul(power),
            (true, None) => i128::MAX,
            (false, Some(power)) => divide_up(digits, power) + i128::from(cut && digits % power == 0),
            (false, None) => 1,
        }
    }
}

/// Upstream caps binary quantities and shows those below one as decimals.
fn binary(nano: i128) -> (i128, Format) {
    let capped = nano.min(i128::from(i64::MAX) * NANO);
    (capped, if capped > 0 && capped < NANO { Format::DecimalSi } else { Format::BinarySi })
}

/// Division that rounds away from zero.
fn divide_up(value: i128, by: i128) -> i128 {
    value / by + if value % by == 0 { 0 } else { value.signum() }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for Quantity {
    /// Canonical: no fraction, and the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let small = self.nano.abs() < 1024 * NANO;
        if self.format == Format::BinarySi && !small && self.nano % NANO == 0 {
            let (mut value, mut power) = (self.nano / NANO, 0);
            while value % 1024 == 0 && power < BINARY.len() {
                (value, power) = (value / 1024, power + 1);
            }
            let suffix = power.checked_sub(1).map_or("", |index| BINARY[index].0);
            return write!(f, "{value}{suffix}");
        }
        let (mut value, mut index) = (self.nano, 0);
        while value % 1000 == 0 && index + 1 < DECIMAL.len() {
            (value, index) = (value / 1000, index + 1);
        }
        match (self.format, DECIMAL[index]) {
            (Format::DecimalExponent, (_, 0)) => write!(f, "{value}"),
            (Format::DecimalExponent, (_, exponent)) => write!(f, "{value}e{exponent}"),
            (_, (suffix, _)) => write!(f, "{value}{suffix}"),
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Quantity, QuantityError> {
        Quantity::parse(text)
    }
}

impl TryFrom<&ApiQuantity> for Quantity {
    type Error = QuantityError;
    fn try_from(quantity: &ApiQuantity) -> Result<Quantity, QuantityError> {
        Quantity::parse(&quantity.0)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nano.hash(state);
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl Quantity {
    /// A sum keeps the format of its first part, unless that is zero.
    fn with(self, other: Quantity, nano: i128) -> Quantity {
        Quantity { nano: nano.max(-i128::MAX), format: if self.is_zero() { other.format } else { self.format } }
    }
}

impl Add for Quantity {
    type Output = Quantity;
    fn add(self, other: Quantity) -> Quantity {
        self.with(other, self.nano.saturating_add(other.nano))
    }
}

impl Sub for Quantity {
    type Output = Quantity;
    fn sub(self, other: Quantity) -> Quantity {
        self.with(other, self.nano.saturating_sub(other.nano))
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Quantity) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Quantity) {
        *self = *self - other;
    }
}

impl Neg for Quantity {
    type Output = Quantity;
    fn neg(self) -> Quantity {
        Quantity { nano: self.nano.saturating_neg(), format: self.format }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Quantity>>(quantities: I) -> Quantity {
        quantities.fold(Quantity::ZERO, |sum, quantity| sum + quantity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_text_and_values() {
        for (text, canonical, value, milli) in [
            ("0", "0", 0, 0),
            ("0n", "0", 0, 0),
            ("0Ki", "0", 0, 0),
            ("+5", "5", 5, 5000),
            ("-5", "-5", -5, -5000),
            (".5", "500m", 1, 500),
            ("1.", "1", 1, 1000),
            ("-1.5", "-1500m", -2, -1500),
            ("007", "7", 7, 7000),
            ("100m", "100m", 1, 100),
            ("0.1m", "100u", 1, 1),
            ("1n", "1n", 1, 1),
            ("0.1n", "1n", 1, 1),
            ("1.0000000001", "1000000001n", 2, 1001),
            ("1000", "1k", 1000, 1_000_000),
            ("1500k", "1500k", 1_500_000, 1_500_000_000),
            ("12E", "12E", i64::MAX, i64::MAX),
            ("1Ki", "1Ki", 1024, 1_024_000),
            ("1.5Gi", "1536Mi", 1_610_612_736, 1_610_612_736_000),
            ("1000Ki", "1000Ki", 1_024_000, 1_024_000_000),
            ("1024Ki", "1Mi", 1_048_576, 1_048_576_000),
            ("0.5Ki", "512", 512, 512_000),
            ("0.0001Ki", "102400u", 1, 103),
            ("1.3Ki", "1331200m", 1332, 1_331_200),
            ("8Ei", "9223372036854775807", i64::MAX, i64::MAX),
            ("1e3", "1e3", 1000, 1_000_000),
            ("1E3", "1e3", 1000, 1_000_000),
            ("1e4", "10e3", 10_000, 10_000_000),
            ("1e0", "1", 1, 1000),
            ("5e-3", "5e-3", 1, 5),
            ("1e-12", "1e-9", 1, 1),
            ("128974848", "128974848", 128_974_848, 128_974_848_000),
            ("129e6", "129e6", 129_000_000, 129_000_000_000),
            ("123Mi", "123Mi", 128_974_848, 128_974_848_000),
        ] {
            let quantity = Quantity::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(quantity.to_string(), canonical, "{text}");
            assert_eq!((quantity.value(), quantity.milli()), (value, milli), "{text}");
            assert_eq!(Quantity::parse(canonical), Ok(quantity), "{canonical}");
        }
    }

    #[test]
    fn refuses() {
        for (text, error) in [
            ("", QuantityError::Format),
            (" 1", QuantityError::Format),
            ("1 ", QuantityError::Format),
            ("1.1.M", QuantityError::Format),
            ("1+1.0M", QuantityError::Format),
            ("aoeu", QuantityError::Format),
            ("0.1mi", QuantityError::Suffix),
            ("0.1am", QuantityError::Format),
            (".5i", QuantityError::Suffix),
            ("1i", QuantityError::Suffix),
            ("-3.01i", QuantityError::Suffix),
            ("-3.01e-", QuantityError::Suffix),
            ("1K", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1e99999999999999999999", QuantityError::Suffix),
            ("1Mi5", QuantityError::Suffix),
            ("--1", QuantityError::Suffix),
            ("٣", QuantityError::Format),
        ] {
            assert_eq!(Quantity::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn extremes_saturate() {
        let parse = |text: &str| Quantity::parse(text).unwrap();
        assert_eq!(parse("1e1000000").value(), i64::MAX);
        assert_eq!(parse("-1e1000000").value(), i64::MIN);
        assert_eq!(parse("1e-1000000"), parse("1n"));
        assert_eq!(parse(&"9".repeat(500)).value(), i64::MAX);
        assert_eq!(parse(&format!("1.{}1", "0".repeat(500))).to_string(), "1000000001n");
        assert_eq!(parse(&format!("0.{}1", "0".repeat(500))), parse("1n"));
        assert_eq!(parse("0e1000000"), Quantity::ZERO);
        assert_eq!((parse("1e28") + parse("1e1000")).value(), i64::MAX);
        // The least sum has an opposite, and can be shown.
        for (a, b) in [("-1e1000", "-1e1000"), ("-1e1000", "-1n")] {
            let least = parse(a) + parse(b);
            assert_eq!(parse(&least.to_string()), least, "{a} + {b}");
            assert_eq!(-(-least), least, "{a} + {b}");
            assert_eq!(-least - least - least, -least, "{a} + {b}");
        }
    }

    #[test]
    fn order_and_sums() {
        let parse = |text: &str| Quantity::parse(text).unwrap();
        assert_eq!(parse("1"), parse("1000m"));
        assert_eq!(parse("1Ki"), parse("1.024k"));
        assert!(parse("999m") < parse("1") && parse("-2") < parse("-1"));
        for (a, b, sum, difference) in [
            ("1", "500m", "1500m", "500m"),
            ("1Gi", "512Mi", "1536Mi", "512Mi"),
            ("0", "1Gi", "1Gi", "-1Gi"),
            ("1Gi", "1G", "2073741824", "73741824"),
            ("100m", "100m", "200m", "0"),
        ] {
            assert_eq!((parse(a) + parse(b)).to_string(), sum, "{a} + {b}");
            assert_eq!((parse(a) - parse(b)).to_string(), difference, "{a} - {b}");
        }
        assert!((parse("1") - parse("2")).is_negative() && (parse("1") - parse("1000m")).is_zero());
        assert_eq!(Quantity::from_milli(250).to_string(), "250m");
        assert_eq!(Quantity::from_value(1 << 30, Format::BinarySi).to_string(), "1Gi");
        assert_eq!(["1", "250m"].map(parse).into_iter().sum::<Quantity>().milli(), 1250);
    }

    proptest! {
        #[test]
        fn canonical_form_round_trips(
            sign in "[+-]?", whole in "[0-9]{1,12}", fraction in "(\\.[0-9]{0,6})?",
            suffix in prop::sample::select(vec!["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "E-2", "e5"]),
        ) {
            let quantity = Quantity::parse(&format!("{sign}{whole}{fraction}{suffix}")).unwrap();
            let canonical = quantity.to_string();
            prop_assert_eq!(Quantity::parse(&canonical), Ok(quantity));
            prop_assert_eq!(Quantity::parse(&canonical).unwrap().to_string(), canonical.clone());
            prop_assert!(!canonical.contains('.'));
        }

        #[test]
        fn never_panics(text in "[-+.0-9eEinumkKMGTP]{0,60}") {
            if let Ok(quantity) = Quantity::parse(&text) {
                let _ = (quantity.to_string(), quantity.milli(), quantity.value(), quantity + quantity, quantity - -quantity);
            }
        }
    }
}
