//! The language's own words, as `?let` shows them: what each does, and an example that a test runs.

use crate::script::help::wrapped;

/// A page: the words that it explains, what they do, and an example.
pub(super) struct Word {
    pub(super) names: &'static [&'static str],
    what: &'static str,
    example: &'static str,
}

impl Word {
    /// The page as help shows it.
    pub(super) fn page(&self, width: usize) -> String {
        let example: String = self.example.lines().map(|line| format!("\n      {line}")).collect();
        format!("{}\n\n{}\n{example}", self.names.join(", "), wrapped(self.what, width, "    "))
    }
}

/// Every page.
pub(super) const WORDS: &[Word] = &[
    Word {
        names: &["let"],
        what: "Declares a variable. Without `let`, a value is given to one that is there.\n\
               Again, it makes another variable: closures made before keep the old one, see `?fn`.",
        example: "let x = 5;\nx = x + 1;\nx += 1;",
    },
    Word { names: &["const"], what: "Declares a name whose value cannot be changed.", example: "const LAYERS = 12;\nLAYERS / 2" },
    Word {
        names: &["if", "else"],
        what: "Runs a block when a condition is true. It has a value: that of the block that ran.",
        example: "let x = 5;\nif x > 3 { print(\"more\"); } else if x == 3 { print(\"three\"); } else { print(\"less\"); }\nlet sign = if x < 0 { -1 } else { 1 };",
    },
    Word {
        names: &["switch"],
        what: "Chooses by value or by range; `_` is everything else.",
        example: "let layer = 3;\nswitch layer { 0 => \"first\", 1..4 => \"early\", _ => \"late\" }",
    },
    Word {
        names: &["for", "in"],
        what: "Walks an array, a range, a tensor's first dimension, a table's rows; of a map `m` its keys, `m.keys()`, or `m.values()`.\n\
               A second name counts from 0.\n\
               `in` alone asks whether an array has an element, a map a key, a text a part.",
        example: "for layer in 0..3 { print(layer); }\nfor (name, i) in [\"a\", \"b\"] { print(`${i}: ${name}`); }\nfor row in table(#{ a: [1, 2] }) { print(row.a); }\nlet m = #{ a: 1 };\nfor key in m.keys() { print(m[key]); }\n2 in [1, 2]",
    },
    Word {
        names: &["while", "until", "do", "loop"],
        what: "Repeat: `while` as long as a condition is true, `do … until` up to it, `loop` up to `break`.",
        example: "let n = 0;\nwhile n < 3 { n += 1; }\ndo { n -= 1; } until n == 0;\nloop { n += 1; if n > 5 { break; } }",
    },
    Word {
        names: &["break", "continue"],
        what: "`break` leaves a loop, and may give it a value; `continue` goes on with the next round.",
        example: "let found = for x in [3, 8, 5] { if x % 2 == 1 { continue; } break x; };",
    },
    Word {
        names: &["fn"],
        what: "Defines a function; its value is its last expression, or what `return` gives. It sees the session's variables.\n\
               A function without a name is a closure: `|x| x + 1`. It keeps the variables that it was made with: after another\n\
               `let x` it has the old one, unlike a function; `x = …` changes the one that both see. Comments `///` above a\n\
               function are what `?name` shows.",
        example: "/// Twice x.\nfn twice(x) { 2 * x }\nlet f = |x| x + 1;\ntwice(f(3))",
    },
    Word {
        names: &["private"],
        what: "Before `fn` in a file: the function is not seen by those who import the file.",
        example: "private fn helper(x) { x + 1 }",
    },
    Word {
        names: &["return"],
        what: "Ends a function with a value.",
        example: "fn first_even(list) { for x in list { if x % 2 == 0 { return x; } } () }\nfirst_even([1, 4])",
    },
    Word {
        names: &["throw", "try", "catch"],
        what: "`throw` raises an error; `try … catch` goes on after one. The error has `message`, `kind` and `line`; a text that\n\
               was thrown is the `message`, and its `line` is (). Any other value that was thrown is caught as it is.\n\
               `throw e` raises an error again, with its first place.",
        example: "try { throw \"no such layer\"; } catch (e) { print(e.message); }\ntry { [1, 2][7] } catch (e) { print(e.message); }",
    },
    Word {
        names: &["import", "as"],
        what: "Reads a file's functions under a name: `std/…` from the library that the program carries, anything else as\n\
               NAME.rhai beside the script. `?std/experiments` lists what is in it.",
        example: "import \"std/experiments\" as exp;\nexp::indices(3, 5, \"layer\")",
    },
    Word {
        names: &["export"],
        what: "In a file: makes a variable seen by those who import the file, as `name::variable`.",
        example: "let threshold = 0.5;\nexport threshold;",
    },
    Word {
        names: &["true", "false"],
        what: "The truth values. `a && b`, `a || b`, `!a` combine them; tensors of them `&`, `|`, `!`.",
        example: "let both = true && !false;",
    },
    Word {
        names: &["this"],
        what: "In a function called as a method: the value before the dot.",
        example: "fn doubled() { this * 2 }\nlet x = 4;\nx.doubled()",
    },
    Word {
        names: &["global"],
        what: "The constants of a script, seen from its functions: `global::NAME`.",
        example: "const K = 3;\nfn k() { global::K }\nk()",
    },
    Word {
        names: &["ans", "Out"],
        what: "`ans` is the value of the last cell that had one, `Out[n]` that of cell n, from 1.",
        example: "let last = ();\nif outputs().len > 0 { last = outputs()[1]; }",
    },
    Word {
        names: &["()"],
        what: "Nothing: the value of what has none, and of an option that is not given.",
        example: "let x = ();\nx == ()",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{KEYWORDS, Session, SessionOptions};
    use crate::work::Work;

    #[test]
    fn every_keyword_has_a_page_whose_example_runs() {
        for keyword in KEYWORDS {
            assert!(WORDS.iter().any(|word| word.names.contains(keyword)), "{keyword}");
        }
        for word in WORDS {
            let mut session = Session::new(Work::silent(1).unwrap(), SessionOptions::default());
            session.eval(word.example, "In[1]").unwrap_or_else(|report| panic!("{}: {report}", word.names[0]));
        }
    }
}
