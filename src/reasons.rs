//! The stable words of failures, in one place for each kind of error: what an error answers and what a list of all
//! answers says can't drift apart.

/// Within an `impl` of an error: `reason()`, by variant, and `REASONS`, all of those words in the order of the
/// table. Variants that pass another error's word on stand under `passed_on`; their words are in that error's list.
macro_rules! reasons {
    (
        $(#[$doc:meta])*
        $vis:vis words { $($pattern:pat => $word:literal,)+ }
        passed_on { $($other:pat => $reason:expr,)* }
    ) => {
        /// Every word that [`reason`](Self::reason) answers of itself; some of them more than once.
        $vis const REASONS: &'static [&'static str] = &[$($word),+];

        $(#[$doc])*
        #[must_use]
        $vis const fn reason(&self) -> &'static str {
            match self {
                $($pattern => $word,)+
                $($other => $reason,)*
            }
        }
    };
}
