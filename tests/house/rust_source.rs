//! As much of Rust's grammar as finding paths takes: `use` trees and paths in expressions and types, with the
//! module that each stands in. Comments, strings and characters don't count.

use std::collections::HashMap;

/// A path as written, with `use` groups taken apart and names brought in by `use` put back to what they stand
/// for: `crate::store::Key`, `std::time::Instant::now`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    /// Any other character; `::` is one token.
    Mark(char),
    PathSeparator,
}

/// Every path of two or more segments in `text`, whose file is the module `module` of the crate: `["store"]` for
/// src/store/mod.rs.
pub(crate) fn paths(text: &str, module: &[String]) -> Vec<Found> {
    let tokens = tokens(text);
    let written = written(&tokens, module);
    let names: HashMap<&str, &Vec<String>> = written
        .iter()
        .filter_map(|written| Some((written.brings.as_deref()?, &written.path)))
        .filter(|(name, path)| path.first().is_some_and(|first| first != name) || path.len() == 1)
        .collect();
    written
        .iter()
        .map(|written| {
            let path = match names.get(written.path[0].as_str()) {
                Some(stands_for) if written.brings.is_none() => {
                    stands_for.iter().chain(&written.path[1..]).cloned().collect()
                }
                _ => written.path.clone(),
            };
            Found { path, line: written.line }
        })
        .filter(|found| found.path.len() > 1)
        .collect()
}

/// Lines that carry the attribute `ignore` or a `cfg_attr` with it.
pub(crate) fn ignored_tests(text: &str) -> Vec<usize> {
    let tokens = tokens(text);
    let is =
        |at: usize, wanted: &str| matches!(&tokens.get(at), Some((Token::Name(name), _)) if name == wanted);
    let mark =
        |at: usize, wanted: char| matches!(tokens.get(at), Some((Token::Mark(mark), _)) if *mark == wanted);
    let mut lines = vec![];
    for at in 0..tokens.len() {
        if !(mark(at, '#') && mark(at + 1, '[')) {
            continue;
        }
        let mut depth = 0_usize;
        for (inner, (token, line)) in tokens.iter().enumerate().skip(at + 1) {
            match token {
                Token::Mark('[') => depth += 1,
                Token::Mark(']') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            let plain = inner == at + 2;
            let conditional = is(at + 2, "cfg_attr") && mark(inner - 1, ',');
            if is(inner, "ignore") && (plain || conditional) {
                lines.push(*line);
            }
        }
    }
    lines
}

/// A path in the text, resolved against its module.
struct Written {
    path: Vec<String>,
    line: usize,
    /// The name that a `use` makes of it.
    brings: Option<String>,
}

fn written(tokens: &[(Token, usize)], file: &[String]) -> Vec<Written> {
    let mut found = vec![];
    // Inline modules: `super` in `mod tests { … }` is the file's own module.
    let mut module = file.to_vec();
    let mut depth = 0_usize;
    let mut inline = vec![];
    let mut at = 0;
    while at < tokens.len() {
        let previous = at.checked_sub(1).map(|at| &tokens[at].0);
        match &tokens[at].0 {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => {
                depth = depth.saturating_sub(1);
                if inline.last() == Some(&depth) {
                    inline.pop();
                    module.pop();
                }
            }
            Token::Name(keyword) if keyword == "mod" && previous != Some(&Token::Mark('.')) => {
                if let (Some((Token::Name(name), _)), Some((Token::Mark('{'), _))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    module.push(name.clone());
                    inline.push(depth);
                    at += 1;
                }
            }
            Token::Name(keyword) if keyword == "use" => {
                at = use_tree(tokens, at + 1, &[], &module, &mut found);
                continue;
            }
            Token::Name(_) if previous != Some(&Token::Mark('.')) => {
                let (path, line, next) = plain_path(tokens, at);
                found.push(Written { path: resolved(path, &module), line, brings: None });
                at = next;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads names joined by `::` and says where they end.
fn plain_path(tokens: &[(Token, usize)], mut at: usize) -> (Vec<String>, usize, usize) {
    let line = tokens[at].1;
    let mut path = vec![];
    while let Some((Token::Name(name), _)) = tokens.get(at) {
        path.push(name.clone());
        at += 1;
        if !matches!(tokens.get(at), Some((Token::PathSeparator, _)))
            || !matches!(tokens.get(at + 1), Some((Token::Name(_), _)))
        {
            break;
        }
        at += 1;
    }
    (path, line, at)
}

/// Takes a `use` tree apart and says where it ends.
fn use_tree(
    tokens: &[(Token, usize)],
    mut at: usize,
    prefix: &[String],
    module: &[String],
    found: &mut Vec<Written>,
) -> usize {
    let mut path = prefix.to_vec();
    let mut line = tokens.get(at).map_or(0, |(_, line)| *line);
    while let Some((token, token_line)) = tokens.get(at) {
        match token {
            Token::PathSeparator => at += 1,
            Token::Name(name) if name == "as" => {
                let brings = match tokens.get(at + 1) {
                    Some((Token::Name(name), _)) => Some(name.clone()),
                    _ => None,
                };
                found.push(Written { path: resolved(without_self(path), module), line, brings });
                return at + 2;
            }
            Token::Name(name) => {
                path.push(name.clone());
                line = *token_line;
                at += 1;
            }
            Token::Mark('*') => {
                path.push("*".into());
                found.push(Written { path: resolved(path, module), line: *token_line, brings: None });
                return at + 1;
            }
            Token::Mark('{') => {
                at += 1;
                while !matches!(tokens.get(at), Some((Token::Mark('}'), _)) | None) {
                    if matches!(tokens.get(at), Some((Token::Mark(','), _))) {
                        at += 1;
                    } else {
                        let next = use_tree(tokens, at, &path, module, found);
                        // Whatever isn't a tree is stepped over: the compiler reports it, not this scan.
                        at = next.max(at + 1);
                    }
                }
                return at + 1;
            }
            Token::Mark(_) => break,
        }
    }
    if path.len() > prefix.len() {
        let path = without_self(path);
        let brings = path.last().cloned();
        found.push(Written { path: resolved(path, module), line, brings });
    }
    at
}

/// `std::time::{self}` brings `std::time`.
fn without_self(mut path: Vec<String>) -> Vec<String> {
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    path
}

/// Starts the path at `crate` if it is of this crate by what it begins with.
fn resolved(path: Vec<String>, module: &[String]) -> Vec<String> {
    let up = path.iter().take_while(|name| *name == "super").count();
    let own = std::iter::once("crate".to_owned());
    match path[0].as_str() {
        "crate" | "vouchsafe" => own.chain(path[1..].iter().cloned()).collect(),
        "self" => own.chain(module.iter().cloned()).chain(path[1..].iter().cloned()).collect(),
        "super" => {
            let above = &module[..module.len().saturating_sub(up)];
            own.chain(above.iter().cloned()).chain(path[up..].iter().cloned()).collect()
        }
        _ => path,
    }
}

/// The text's tokens with their lines, counted from 1.
fn tokens(text: &str) -> Vec<(Token, usize)> {
    let characters: Vec<char> = text.chars().collect();
    let mut tokens = vec![];
    let (mut at, mut line) = (0, 1);
    while at < characters.len() {
        let end = match skipped(&characters, at) {
            Some(end) => end,
            None => {
                let character = characters[at];
                if character.is_alphabetic() || character == '_' {
                    let length =
                        characters[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
                    tokens.push((Token::Name(characters[at..at + length].iter().collect()), line));
                    at + length
                } else if characters[at..].starts_with(&[':', ':']) {
                    tokens.push((Token::PathSeparator, line));
                    at + 2
                } else {
                    if !character.is_whitespace() {
                        tokens.push((Token::Mark(character), line));
                    }
                    at + 1
                }
            }
        };
        line += characters[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

/// Where the comment, string, character or lifetime that begins at `at` ends; none when another thing begins.
fn skipped(characters: &[char], at: usize) -> Option<usize> {
    let rest = &characters[at..];
    let until = |end: usize| Some((at + end).min(characters.len()));
    if rest.starts_with(&['/', '/']) {
        return until(rest.iter().take_while(|c| **c != '\n').count());
    }
    if rest.starts_with(&['/', '*']) {
        let (mut depth, mut end) = (0_usize, 0);
        while end < rest.len() {
            if rest[end..].starts_with(&['/', '*']) {
                depth += 1;
                end += 2;
            } else if rest[end..].starts_with(&['*', '/']) {
                depth -= 1;
                end += 2;
                if depth == 0 {
                    break;
                }
            } else {
                end += 1;
            }
        }
        return until(end);
    }
    // Prefixes of strings; a name that merely ends in one of these letters was read whole before.
    let prefix = rest.iter().take_while(|c| "bcr".contains(**c)).count();
    let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
    let opens = rest.get(prefix + hashes) == Some(&'"');
    if prefix <= 2 && opens && rest[..prefix].contains(&'r') {
        let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
        let body = prefix + hashes + 1;
        let length = (body..rest.len()).find(|end| rest[*end..].starts_with(&close)).unwrap_or(rest.len());
        return until(length + close.len());
    }
    if prefix <= 1 && hashes == 0 && opens {
        return until(quoted(rest, prefix + 1, '"'));
    }
    let prefix = usize::from(rest.starts_with(&['b', '\'']));
    if rest.get(prefix) == Some(&'\'') {
        let is_lifetime =
            rest.get(prefix + 1).is_some_and(|c| *c != '\\') && rest.get(prefix + 2) != Some(&'\'');
        let name = rest[prefix + 1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
        return until(if is_lifetime { prefix + 1 + name } else { quoted(rest, prefix + 1, '\'') });
    }
    None
}

/// Where a literal with escapes ends, its closing mark included.
fn quoted(rest: &[char], mut end: usize, close: char) -> usize {
    while end < rest.len() && rest[end] != close {
        end += if rest[end] == '\\' { 2 } else { 1 };
    }
    end + 1
}
