//! Texts of servers and SDKs as messages repeat them: bounded, on one line, and without what may be a secret.

use std::error::Error;

/// Longest text that is repeated, in characters.
const MAX_TEXT: usize = 300;

/// An error and all that it was caused by.
pub(super) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (**error).source())
}

/// An error and its causes as they print, each once, and without the parameters of URLs: signatures, and the ids of
/// uploads, stand there.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    for text in causes(error).map(ToString::to_string) {
        let text = without_queries(&text);
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
    }
    shown(&parts.join(": "))
}

fn without_queries(text: &str) -> String {
    let words = text.split(' ').map(|word| match (word.contains("://"), word.split_once('?')) {
        (true, Some((head, _))) => format!("{head}?…"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Bounded, and without what would break a line of a log.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { ' ' } else { it }).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Said {
        said: &'static str,
        source: Option<Box<Said>>,
    }

    #[test]
    fn causes_are_told_once_each_and_without_parameters() {
        let inner = Said { said: "https://host/path?sig=canary was refused", source: None };
        let middle = Said { said: "the token can't be had", source: Some(Box::new(inner)) };
        let outer = Said { said: "sending: the token can't be had", source: Some(Box::new(middle)) };
        assert_eq!(chain(&outer), "sending: the token can't be had: https://host/path?… was refused");
        assert_eq!(shown("a\nb\u{1b}c"), "a b c");
        assert_eq!(shown(&"x\n".repeat(1_000)).len(), MAX_TEXT);
    }

    #[test]
    fn no_query_of_a_url_is_shown() {
        let text =
            "error sending request for url (http://h:1/c/k?sv=1&sig=canary), https://h/c?sig=canary and more";
        let shown = without_queries(text);
        assert!(
            !shown.contains("canary") && shown.contains("http://h:1/c/k") && shown.contains("and more"),
            "{shown}"
        );
    }
}
