#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    vouchsafe_fuzz::names(data);
});
