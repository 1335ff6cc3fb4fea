#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    vouchsafe_fuzz::store_urls(data);
});
