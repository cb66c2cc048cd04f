//! Settings of the process, which no other test of this program relies on.

use segen_kernels::{Path, Precision, Settings};

#[test]
fn those_of_the_process_hold_on_all_threads_but_within_scopes() {
    assert_eq!(Settings::current(), Settings::default());
    let settings = Settings::current()
        .with_path(Some(Path::Portable))
        .expect("every processor has it")
        .with_precision(Precision::Bf16)
        .with_matrix_tiles(false)
        .with_threads(3);
    let inner = settings.clone().with_precision(Precision::F32);
    inner.scoped(|| {
        settings.clone().set_for_process();
        assert_eq!(Settings::current(), inner);
        let elsewhere = std::thread::spawn(Settings::current).join().expect("no panic");
        assert_eq!(elsewhere, settings);
    });
    let current = Settings::current();
    assert_eq!(current, settings);
    assert_eq!((current.path(), current.precision()), (Path::Portable, Precision::Bf16));
    assert_eq!((current.matrix_tiles(), current.threads()), (false, 3));
    assert_eq!(current.with_path(None).expect("the fastest"), settings.with_path(None).expect("the fastest"));
}
