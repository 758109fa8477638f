//! "Did you mean": the known word that is closest to a wrong one.

/// The closest of the candidates, if one is close enough to be meant.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = word.to_lowercase();
    // A third of the letters may be wrong; in short words one.
    let limit = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The end of a sentence: `; did you mean "x"?`, or nothing.
pub fn sentence<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    closest(word, candidates).map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant_and_nothing_far_away() {
        let keys = ["containers", "projects", "volumes", "ui"];
        assert_eq!(closest("contianers", keys), Some("containers"));
        assert_eq!(closest("Volume", keys), Some("volumes"));
        assert_eq!(closest("iu", keys), Some("ui"));
        assert_eq!(closest("databases", keys), None);
        assert_eq!(closest("x", keys), None);
    }
}
