//! Role names in the few kinds of statements that `pg_dump` writes with them: privileges, policies, user mappings. A
//! role is told from everything else by its place, since tables and columns may have the same names.

use std::ops::Range;

use super::RoleNames;
use crate::format::relation::quote_identifier;

/// Whether statements of this kind of entry name roles beside the entry's owner.
pub(super) fn names_roles(kind: &str) -> bool {
    matches!(kind, "ACL" | "DEFAULT ACL" | "POLICY" | "USER MAPPING")
}

/// The statements of an entry of `kind`, told by the new names; `None` where no role changes its name.
///
/// # Errors
/// What is not as `pg_dump` writes it.
pub(super) fn renamed(kind: &str, sql: &str, names: &RoleNames) -> Result<Option<String>, &'static str> {
    let mut text = String::with_capacity(sql.len());
    let mut copied = 0;
    for range in roles(kind, sql)? {
        let known = name(&sql[range.clone()]);
        let new = names.of(&known);
        if new != known {
            text.push_str(&sql[copied..range.start]);
            text.push_str(&quote_identifier(new));
            copied = range.end;
        }
    }
    if copied == 0 {
        return Ok(None);
    }
    text.push_str(&sql[copied..]);
    Ok(Some(text))
}

/// Where roles are named, in their order.
fn roles(kind: &str, sql: &str) -> Result<Vec<Range<usize>>, &'static str> {
    let tokens = tokens(sql)?;
    let mut found = Vec::new();
    for statement in tokens.split(|token| token.depth == 0 && token.is(sql, ";")) {
        let statement = Statement { sql, tokens: statement };
        let Some(first) = statement.tokens.first() else { continue };
        match kind {
            "POLICY" => statement.policy(&mut found)?,
            "USER MAPPING" => found.push(statement.after(&["FOR"]).ok_or("no FOR in a user mapping")??),
            _ if first.is(sql, "GRANT") || first.is(sql, "REVOKE") => statement.grantee(&mut found)?,
            _ if first.is(sql, "ALTER") => {
                found.extend(statement.after(&["FOR", "ROLE"]).transpose()?);
                statement.grantee(&mut found)?;
            }
            _ if first.is(sql, "SET") => {
                let role = statement
                    .after(&["SESSION", "AUTHORIZATION"])
                    .ok_or("another SET than of a session's role")?;
                found.push(role?);
            }
            _ if first.is(sql, "RESET") => {}
            _ => return Err("a statement of another kind among privileges"),
        }
    }
    Ok(found)
}

/// An identifier without its quotes.
fn name(text: &str) -> String {
    match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => text.to_lowercase(),
    }
}

struct Statement<'a> {
    sql: &'a str,
    tokens: &'a [Token],
}

impl Statement<'_> {
    /// The identifier after these words in a row, if they are there.
    fn after(&self, words: &[&str]) -> Option<Result<Range<usize>, &'static str>> {
        let fits = |window: &[Token]| window.iter().zip(words).all(|(token, word)| token.is(self.sql, word));
        let at = self.tokens.windows(words.len()).position(fits)?;
        Some(self.role_at(at + words.len()))
    }

    fn role_at(&self, at: usize) -> Result<Range<usize>, &'static str> {
        let token = self.tokens.get(at).filter(|token| token.kind == Kind::Identifier);
        token.map(|token| token.range.clone()).ok_or("no role where one should be named")
    }

    /// Of a GRANT or REVOKE: the one after its last TO or FROM, and the one that it is granted by. Both words are
    /// reserved, so that nothing else is called so without quotes.
    fn grantee(&self, found: &mut Vec<Range<usize>>) -> Result<(), &'static str> {
        let word =
            |token: &Token| token.depth == 0 && (token.is(self.sql, "TO") || token.is(self.sql, "FROM"));
        let at = self.tokens.iter().rposition(word).ok_or("a privilege for nobody")? + 1;
        let group = self.tokens.get(at).is_some_and(|token| token.is(self.sql, "GROUP"));
        let role = self.role_at(at + usize::from(group))?;
        // PUBLIC is a word here, and no role can be called so.
        if !self.sql[role.clone()].eq_ignore_ascii_case("PUBLIC") {
            found.push(role);
        }
        found.extend(self.after(&["GRANTED", "BY"]).transpose()?);
        Ok(())
    }

    /// Of CREATE POLICY: the list after TO, which expressions in parentheses follow.
    fn policy(&self, found: &mut Vec<Range<usize>>) -> Result<(), &'static str> {
        let to = self.tokens.iter().position(|token| token.depth == 0 && token.is(self.sql, "TO"));
        let Some(mut at) = to.map(|at| at + 1) else { return Ok(()) };
        loop {
            let role = self.role_at(at)?;
            if !self.sql[role.clone()].eq_ignore_ascii_case("PUBLIC") {
                found.push(role);
            }
            at += 1;
            if !self.tokens.get(at).is_some_and(|token| token.is(self.sql, ",")) {
                return Ok(());
            }
            at += 1;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A word, or anything in double quotes.
    Identifier,
    /// A single character that is neither.
    Symbol,
    /// A text, a number.
    Literal,
}

#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    range: Range<usize>,
    /// Parentheses around it.
    depth: usize,
}

impl Token {
    /// Whether it is this word or symbol, without quotes.
    fn is(&self, sql: &str, word: &str) -> bool {
        self.kind != Kind::Literal && sql[self.range.clone()].eq_ignore_ascii_case(word)
    }
}

/// Words, quoted names, texts and symbols, by PostgreSQL's lexical structure (manual, chapter 4.1), as far as `pg_dump`
/// uses it: it writes no comments into statements, and texts with standard conforming strings.
fn tokens(sql: &str) -> Result<Vec<Token>, &'static str> {
    const OPEN: &str = "a quote that is not closed";
    let mut tokens: Vec<Token> = Vec::new();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(first) = sql[at..].chars().next() {
        let rest = &sql[at..];
        let (kind, length) = match first {
            _ if first.is_whitespace() => {
                at += first.len_utf8();
                continue;
            }
            '"' => (Kind::Identifier, quoted(rest, '"', false).ok_or(OPEN)?),
            '\'' => {
                // E'…' knows backslashes. Its letter was taken for a word.
                let escapes = tokens.last().is_some_and(|it| it.range.end == at && it.is(sql, "E"));
                (Kind::Literal, quoted(rest, '\'', escapes).ok_or(OPEN)?)
            }
            '$' => match dollar_quoted(rest) {
                Some(length) => (Kind::Literal, length.ok_or(OPEN)?),
                None => (Kind::Symbol, 1),
            },
            _ if is_word_start(first) => (Kind::Identifier, word(rest)),
            _ if first.is_ascii_digit() => (Kind::Literal, word(rest)),
            _ => (Kind::Symbol, first.len_utf8()),
        };
        match first {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1).ok_or("a parenthesis that was never opened")?,
            _ => {}
        }
        tokens.push(Token { kind, range: at..at + length, depth });
        at += length;
    }
    if depth == 0 { Ok(tokens) } else { Err("a parenthesis that is not closed") }
}

fn is_word_start(first: char) -> bool {
    first.is_ascii_alphabetic() || first == '_' || !first.is_ascii()
}

/// Length of the word or number that `text` begins with.
fn word(text: &str) -> usize {
    let ends = |it: char| !is_word_start(it) && !it.is_ascii_digit() && it != '$';
    text.find(ends).unwrap_or(text.len())
}

/// Length of what `text` begins with in quotes; a quote twice is one in it.
fn quoted(text: &str, quote: char, escapes: bool) -> Option<usize> {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if escapes && character == '\\' {
            characters.next();
        } else if character == quote {
            match characters.peek() {
                Some((_, next)) if *next == quote => drop(characters.next()),
                _ => return Some(at + quote.len_utf8()),
            }
        }
    }
    None
}

/// Length of a text in dollar quotes; `Some(None)` for one that is not closed, `None` for what is none.
fn dollar_quoted(text: &str) -> Option<Option<usize>> {
    let tag = text[1..].find('$')? + 2;
    let name = &text[1..tag - 1];
    let is_name = name.chars().next().is_none_or(is_word_start)
        && name.chars().all(|it| is_word_start(it) || it.is_ascii_digit());
    is_name.then(|| text[tag..].find(&text[..tag]).map(|end| tag + end + tag))
}

#[cfg(test)]
mod tests {
    use super::super::tests::names;
    use super::*;

    fn told(kind: &str, sql: &str) -> String {
        let names = names(&[("app", "app2"), ("Own er", "o\"2")]);
        renamed(kind, sql, &names).unwrap().unwrap_or_else(|| "unchanged".into())
    }

    #[test]
    fn grantees_are_renamed_and_tables_of_the_same_name_are_not() {
        let sql = "REVOKE ALL ON TABLE app.app FROM app;\nGRANT SELECT(app),UPDATE(\"to\") ON TABLE public.app TO app \
                   WITH GRANT OPTION;\nSET SESSION AUTHORIZATION \"Own er\";\nGRANT ALL ON FUNCTION f(app integer, \
                   \"char\") TO PUBLIC;\nRESET SESSION AUTHORIZATION;\nGRANT USAGE ON SCHEMA app TO other GRANTED BY app;\n";
        let expected = "REVOKE ALL ON TABLE app.app FROM \"app2\";\nGRANT SELECT(app),UPDATE(\"to\") ON TABLE public.app TO \
                        \"app2\" WITH GRANT OPTION;\nSET SESSION AUTHORIZATION \"o\"\"2\";\nGRANT ALL ON FUNCTION f(app \
                        integer, \"char\") TO PUBLIC;\nRESET SESSION AUTHORIZATION;\nGRANT USAGE ON SCHEMA app TO other \
                        GRANTED BY \"app2\";\n";
        assert_eq!(told("ACL", sql), expected);
        assert_eq!(told("ACL", "GRANT ALL ON TABLE public.app TO other;\n"), "unchanged");
        assert_eq!(told("ACL", "GRANT ALL ON TABLE public.\" TO app\" TO other;\n"), "unchanged");
    }

    #[test]
    fn default_privileges_policies_and_user_mappings_too() {
        assert_eq!(
            told(
                "DEFAULT ACL",
                "ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA app REVOKE ALL ON TABLES  FROM app;\n\
                 ALTER DEFAULT PRIVILEGES FOR ROLE other GRANT SELECT ON TABLES  TO app;\n"
            ),
            "ALTER DEFAULT PRIVILEGES FOR ROLE \"app2\" IN SCHEMA app REVOKE ALL ON TABLES  FROM \"app2\";\n\
             ALTER DEFAULT PRIVILEGES FOR ROLE other GRANT SELECT ON TABLES  TO \"app2\";\n"
        );
        assert_eq!(
            told(
                "POLICY",
                "CREATE POLICY app ON public.app FOR SELECT TO other, app, \"Own er\" USING ((app = 'TO app;'::text));\n"
            ),
            "CREATE POLICY app ON public.app FOR SELECT TO other, \"app2\", \"o\"\"2\" USING ((app = 'TO app;'::text));\n"
        );
        assert_eq!(told("POLICY", "CREATE POLICY p ON t USING (pg_has_role('app', 'x'));\n"), "unchanged");
        assert_eq!(
            told(
                "USER MAPPING",
                "CREATE USER MAPPING FOR app SERVER app OPTIONS (\n    \"user\" 'app'\n);\n"
            ),
            "CREATE USER MAPPING FOR \"app2\" SERVER app OPTIONS (\n    \"user\" 'app'\n);\n"
        );
    }

    #[test]
    fn texts_are_texts_in_every_kind_of_quotes() {
        let policy = |expression: &str| format!("CREATE POLICY p ON t TO app USING (({expression}));\n");
        for text in [
            "'it''s; TO app'",
            "E'\\'; TO app'",
            "$$'; ) TO app$$",
            "$q1$ ( $$ $q1$",
            "U&\"to\"",
            "1e5",
            "a$b",
        ] {
            assert_eq!(
                told("POLICY", &policy(text)),
                policy(text).replace("TO app USING", "TO \"app2\" USING"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_pg_dump_does_not_write_is_refused() {
        let names = names(&[("app", "app2")]);
        for (kind, sql) in [
            ("ACL", "GRANT ALL ON TABLE t;"),
            ("ACL", "GRANT ALL ON TABLE t TO 'app';"),
            ("ACL", "DROP TABLE t;"),
            ("ACL", "SET search_path = '';"),
            ("ACL", "GRANT ALL ON TABLE \"t TO app;"),
            ("POLICY", "CREATE POLICY p ON t TO app, USING ((true);"),
            ("POLICY", "CREATE POLICY p ON t TO app) USING (true);"),
            ("POLICY", "CREATE POLICY p ON t TO app USING ('a);"),
            ("POLICY", "CREATE POLICY p ON t TO app USING ($$a);"),
            ("USER MAPPING", "CREATE USER MAPPING SERVER app;"),
        ] {
            assert!(renamed(kind, sql, &names).is_err(), "{sql}");
        }
    }
}
