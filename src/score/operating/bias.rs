//! The bias of a decision.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What is added to the log-probabilities of the foreground classes before the largest wins; 0 for the background.
/// In files a list of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bias(Vec<f64>);

impl Bias {
    /// These values of b, one for each foreground class.
    pub fn new(values: Vec<f64>) -> Self {
        Self(values)
    }

    /// The plain decision for the largest probability.
    pub fn none(foreground: usize) -> Self {
        Self(vec![0.0; foreground])
    }

    /// Whether it changes nothing.
    pub fn is_none(&self) -> bool {
        self.0.iter().all(|b| *b == 0.0)
    }

    /// The b of every foreground class.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// What the probability of every class is multiplied by, background included.
    pub fn odds(&self) -> Vec<f64> {
        std::iter::once(1.0).chain(self.0.iter().map(|b| b.exp())).collect()
    }

    /// Reads `CLASS=ODDS` settings, each perhaps several with commas between. `names` are the classes, background
    /// first, and are compared without regard to case; ODDS, above 0, is e^b. Classes that are not named keep b = 0.
    ///
    /// # Errors
    /// Where a class is unknown, is the background or is named twice, or a number is none or not above 0.
    pub fn parse(texts: &[String], names: &[String]) -> Result<Self> {
        let fail = |problem: String, mend: String| Err(Error::config("--operating", problem, mend));
        let foreground = names.get(1..).unwrap_or_default();
        let mut values: Vec<Option<f64>> = vec![None; foreground.len()];
        for part in texts.iter().flat_map(|text| text.split(',')).map(str::trim) {
            let Some((name, odds)) = part.rsplit_once('=') else {
                return fail(
                    format!("`{part}` is neither `auto` nor `argmax`, and no CLASS=ODDS"),
                    format!("write for example {}=2", foreground.first().map_or("lesion", String::as_str)),
                );
            };
            let (name, odds) = (name.trim(), odds.trim());
            let same = |other: &String| other.to_lowercase() == name.to_lowercase();
            let Some(class) = foreground.iter().position(same) else {
                if names.first().is_some_and(same) {
                    return fail(
                        format!("`{name}` is the background, whose odds are 1"),
                        "divide the odds of the other classes instead".to_owned(),
                    );
                }
                let closeness =
                    |known: &&String| strsim::jaro_winkler(&known.to_lowercase(), &name.to_lowercase());
                let nearest = foreground.iter().max_by(|a, b| closeness(a).total_cmp(&closeness(b)));
                return fail(
                    format!("there is no class `{name}`"),
                    format!(
                        "did you mean `{}`? The classes are {}",
                        nearest.map_or("", String::as_str),
                        foreground.join(", ")
                    ),
                );
            };
            let number = odds.parse::<f64>().ok().filter(|odds| *odds > 0.0 && odds.is_finite());
            let Some(number) = number else {
                return fail(
                    format!("the odds of `{name}` are `{odds}`, which is no number above 0"),
                    "1 changes nothing, 2 doubles the odds of the class, 0.5 halves them".to_owned(),
                );
            };
            if values[class].replace(number.ln()).is_some() {
                return fail(format!("`{name}` is named twice"), "name every class once".to_owned());
            }
        }
        Ok(Self(values.into_iter().map(|value| value.unwrap_or(0.0)).collect()))
    }

    /// In words, for people: the odds of each foreground class of these names whose b is not 0.
    pub fn describe(&self, foreground: &[String]) -> String {
        let named = foreground.iter().zip(&self.0).filter(|(_, b)| **b != 0.0);
        let parts: Vec<String> = named.map(|(name, b)| format!("{name}={}", rounded(b.exp()))).collect();
        if parts.is_empty() { "argmax".to_owned() } else { parts.join(",") }
    }
}

/// Four significant digits.
fn rounded(odds: f64) -> String {
    let text = format!("{odds:.3e}");
    text.parse::<f64>().map_or(text, |short| short.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Bias> {
        let names = ["background", "left kidney", "Tumour"].map(str::to_owned);
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Bias::parse(&texts, &names)
    }

    #[test]
    fn odds_are_factors_of_named_classes() {
        assert_eq!(parse(&["tumour=1"]).unwrap(), Bias::none(2));
        let bias = parse(&["TUMOUR=4, left kidney = 0.5"]).unwrap();
        assert_eq!(bias, parse(&["tumour=4", "left kidney=0.5"]).unwrap());
        assert!((bias.values()[0] + 2f64.ln()).abs() < 1e-12 && (bias.values()[1] - 4f64.ln()).abs() < 1e-12);
        let names = ["background", "left kidney", "Tumour"].map(str::to_owned);
        assert_eq!(bias.describe(&names[1..]), "left kidney=0.5,Tumour=4");
        assert_eq!(Bias::none(2).describe(&names[1..]), "argmax");
    }

    #[test]
    fn bad_names_and_numbers_are_named_with_what_is_near() {
        for (text, words) in [
            ("tumor=2", &["no class `tumor`", "`Tumour`?", "left kidney, Tumour"][..]),
            ("background=2", &["is the background"]),
            ("tumour=0", &["`tumour`", "`0`", "above 0"]),
            ("tumour=-1", &["`-1`"]),
            ("tumour=inf", &["`inf`"]),
            ("tumour=NaN", &["`NaN`"]),
            ("tumour=x", &["`x`"]),
            ("tumour=", &["``"]),
            ("tumour", &["`tumour` is neither", "left kidney=2"]),
            ("", &["`` is neither"]),
            ("tumour=2,tumour=3", &["twice"]),
        ] {
            let error = parse(&[text]).unwrap_err().to_string();
            assert!(error.starts_with("--operating: "), "{error}");
            for word in words {
                assert!(error.contains(word), "{text}: {error}");
            }
        }
    }
}
