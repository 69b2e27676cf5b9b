//! The grammar of filters: `selector == value`, `value in selector`, `selector is empty`, joined by `not`, `and`, `or`.

use smol_str::SmolStr;

use super::FilterError;

/// Deepest nesting of parentheses and `not`: a person's filter has three or four, and each level costs stack.
const DEPTH_MAX: usize = 64;

#[derive(Debug, PartialEq)]
pub(super) enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Match(Match),
}

#[derive(Debug, PartialEq)]
pub(super) struct Match {
    pub(super) path: Vec<SmolStr>,
    pub(super) operator: Operator,
    pub(super) value: Option<SmolStr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    In,
    NotIn,
    IsEmpty,
    IsNotEmpty,
    Matches,
    NotMatches,
}

impl Operator {
    /// As error texts call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Operator::Equal => "Equal",
            Operator::NotEqual => "Not Equal",
            Operator::In => "In",
            Operator::NotIn => "Not In",
            Operator::IsEmpty => "Is Empty",
            Operator::IsNotEmpty => "Is Not Empty",
            Operator::Matches => "Matches",
            Operator::NotMatches => "Not Matches",
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Expression, FilterError> {
    let mut cursor = Cursor { text, at: 0, depth: 0 };
    let expression = cursor.any()?;
    cursor.blanks();
    if cursor.at < text.len() {
        return Err(cursor.fault("expected \"and\", \"or\" or the end"));
    }
    Ok(expression)
}

struct Cursor<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Cursor<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn fault(&self, what: &str) -> FilterError {
        let line = self.text[..self.at].matches('\n').count() + 1;
        let column = self.at - self.text[..self.at].rfind('\n').map_or(0, |at| at + 1) + 1;
        FilterError::Syntax(format!("{line}:{column} ({}): {what}", self.at))
    }

    fn blanks(&mut self) -> bool {
        let rest = self.rest();
        let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.at += rest.len() - trimmed.len();
        rest.len() > trimmed.len()
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Words with blanks between them, and nothing behind the last that would make it another word.
    fn words(&mut self, words: &[&str]) -> bool {
        let start = self.at;
        for (at, word) in words.iter().enumerate() {
            if at > 0 && !self.blanks() || !self.eat(word) || self.rest().starts_with(is_word) {
                self.at = start;
                return false;
            }
        }
        true
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, FilterError>) -> Result<T, FilterError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(FilterError::TooLarge(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        let read = read(self)?;
        self.depth -= 1;
        Ok(read)
    }

    fn any(&mut self) -> Result<Expression, FilterError> {
        self.chain("or", Self::all, Expression::Any)
    }

    fn all(&mut self) -> Result<Expression, FilterError> {
        self.chain("and", Self::not, Expression::All)
    }

    fn chain(
        &mut self,
        word: &str,
        part: impl Fn(&mut Self) -> Result<Expression, FilterError>,
        join: impl Fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, FilterError> {
        let first = part(self)?;
        let mut parts = Vec::new();
        loop {
            let before = self.at;
            if !(self.blanks() && self.words(&[word]) && self.blanks()) {
                self.at = before;
                break;
            }
            parts.push(part(self)?);
        }
        if parts.is_empty() {
            return Ok(first);
        }
        parts.insert(0, first);
        Ok(join(parts))
    }

    fn not(&mut self) -> Result<Expression, FilterError> {
        self.blanks();
        let start = self.at;
        if self.words(&["not"]) && self.blanks() {
            return self.deeper(|cursor| Ok(Expression::Not(Box::new(cursor.not()?))));
        }
        self.at = start;
        if self.eat("(") {
            let inner = self.deeper(Self::any)?;
            self.blanks();
            return if self.eat(")") { Ok(inner) } else { Err(self.fault("expected \")\"")) };
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expression, FilterError> {
        let start = self.at;
        if let Some(path) = self.selector() {
            let blank = self.blanks();
            let sign = if self.eat("==") {
                Some(Operator::Equal)
            } else if self.eat("!=") {
                Some(Operator::NotEqual)
            } else if !blank {
                None
            } else if self.words(&["is", "not", "empty"]) {
                return Ok(Expression::Match(Match { path, operator: Operator::IsNotEmpty, value: None }));
            } else if self.words(&["is", "empty"]) {
                return Ok(Expression::Match(Match { path, operator: Operator::IsEmpty, value: None }));
            } else if self.words(&["contains"]) {
                Some(Operator::In)
            } else if self.words(&["not", "contains"]) {
                Some(Operator::NotIn)
            } else if self.words(&["matches"]) {
                Some(Operator::Matches)
            } else if self.words(&["not", "matches"]) {
                Some(Operator::NotMatches)
            } else {
                None
            };
            if let Some(operator) = sign {
                self.blanks();
                let value = self.value()?;
                return Ok(Expression::Match(Match { path, operator, value: Some(value) }));
            }
            self.at = start;
        }
        let value = self.value()?;
        let blank = self.blanks();
        let operator = if blank && self.words(&["not", "in"]) {
            Operator::NotIn
        } else if blank && self.words(&["in"]) {
            Operator::In
        } else {
            return Err(self.fault("expected an operator"));
        };
        self.blanks();
        let path = self.selector().ok_or_else(|| self.fault("expected a selector"))?;
        Ok(Expression::Match(Match { path, operator, value: Some(value) }))
    }

    fn identifier(&mut self) -> Option<SmolStr> {
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        self.at += end;
        Some(SmolStr::new(&rest[..end]))
    }

    fn selector(&mut self) -> Option<Vec<SmolStr>> {
        let mut path = vec![self.identifier()?];
        loop {
            let before = self.at;
            if self.eat(".") {
                match self.identifier() {
                    Some(name) => path.push(name),
                    None => {
                        self.at = before;
                        return Some(path);
                    }
                }
            } else if self.eat("[") {
                self.blanks();
                match self.quoted() {
                    Ok(Some(name)) => path.push(name),
                    Ok(None) | Err(_) => {
                        self.at = before;
                        return Some(path);
                    }
                }
                self.blanks();
                if !self.eat("]") {
                    self.at = before;
                    return Some(path);
                }
            } else {
                return Some(path);
            }
        }
    }

    /// A quoted text, a number, or a bare word that could be a selector.
    fn value(&mut self) -> Result<SmolStr, FilterError> {
        if let Some(text) = self.quoted()? {
            return Ok(text);
        }
        let start = self.at;
        if self.selector().is_some() {
            return Ok(SmolStr::new(&self.text[start..self.at]));
        }
        let rest = self.rest();
        let digits = rest.strip_prefix('-').unwrap_or(rest);
        let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
        let number = &rest[..rest.len() - digits.len() + end];
        if digits.starts_with(|c: char| c.is_ascii_digit())
            && number.parse::<f64>().is_ok()
            && !digits[end..].starts_with(is_word)
        {
            self.at += number.len();
            return Ok(SmolStr::new(number));
        }
        Err(self.fault("no match found, expected a value"))
    }

    fn quoted(&mut self) -> Result<Option<SmolStr>, FilterError> {
        let rest = self.rest();
        if let Some(raw) = rest.strip_prefix('`') {
            let end = raw.find('`').ok_or_else(|| self.fault("Unterminated string literal"))?;
            self.at += end + 2;
            return Ok(Some(SmolStr::new(&raw[..end])));
        }
        if !rest.starts_with('"') {
            return Ok(None);
        }
        let mut text = String::new();
        let mut letters = rest.char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.at += at + 1;
                    return Ok(Some(SmolStr::new(text)));
                }
                '\\' => {
                    let Some((_, escape)) = letters.next() else { break };
                    text.push(match escape {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        'u' | 'x' => {
                            let length = if escape == 'u' { 4 } else { 2 };
                            let digits: String = letters.by_ref().take(length).map(|(_, digit)| digit).collect();
                            let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == length);
                            code.and_then(char::from_u32).ok_or_else(|| self.fault("invalid escape in a string"))?
                        }
                        same @ ('"' | '\\' | '/' | '\'') => same,
                        _ => return Err(self.fault("invalid escape in a string")),
                    });
                }
                letter => text.push(letter),
            }
        }
        Err(self.fault("Unterminated string literal"))
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
