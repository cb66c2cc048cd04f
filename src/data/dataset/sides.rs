//! Names that mean the left and the right one of the same thing.

/// Pairs (left name, right name) among `names`, each once.
pub(super) fn pairs<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let names: Vec<&str> = names.collect();
    let mut found = Vec::new();
    for left in &names {
        let Some(counterpart) = right_counterpart(left) else { continue };
        if let Some(right) = names.iter().find(|name| name.to_lowercase() == counterpart) {
            let pair = ((*left).to_owned(), (*right).to_owned());
            if !found.contains(&pair) {
                found.push(pair);
            }
        }
    }
    found
}

/// The lower-case name of the right one, where `name` is that of a left one: the letters `left` anywhere, or `l`
/// or `lh` standing by themselves.
fn right_counterpart(name: &str) -> Option<String> {
    let name = name.to_lowercase();
    if name.contains("left") {
        return Some(name.replacen("left", "right", 1));
    }
    let words: Vec<&str> = name.split(|letter: char| !letter.is_alphanumeric()).collect();
    let word = words.iter().find(|word| ["l", "lh"].contains(*word))?;
    let start = word.as_ptr() as usize - name.as_ptr() as usize;
    Some(format!("{}r{}", &name[..start], &name[start + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_found_in_the_usual_spellings_and_only_in_pairs() {
        let pair = |a: &str, b: &str| vec![(a.to_owned(), b.to_owned())];
        assert_eq!(pairs(["Right Kidney", "Left Kidney"].into_iter()), pair("Left Kidney", "Right Kidney"));
        assert_eq!(pairs(["femur_L", "femur_R"].into_iter()), pair("femur_L", "femur_R"));
        assert_eq!(pairs(["lh-hippo", "rh-hippo"].into_iter()), pair("lh-hippo", "rh-hippo"));
        assert_eq!(pairs(["LeftLung", "RightLung"].into_iter()), pair("LeftLung", "RightLung"));
        assert!(pairs(["left atrium", "aorta", "lr", "liver", "river"].into_iter()).is_empty());
    }
}
