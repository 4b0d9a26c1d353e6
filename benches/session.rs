//! What the prompt costs: start, completion, compiling a long script, a tensor operation from a script above its native
//! time, and loops of scalar steps beside plain Rhai's. `cargo bench --bench session`.

// A bench whose set-up fails has nothing to say.
#![allow(clippy::expect_used)]

use rhai::{Engine, OptimizationLevel, Scope};
use saerepl::session::{Session, SessionOptions};
use saerepl::tensor::{Arithmetic, Tensor};
use saerepl::work::Work;
use std::hint::black_box;
use std::time::Instant;

/// The best of some runs, in seconds.
fn best(runs: usize, mut f: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        let begun = Instant::now();
        f();
        best = best.min(begun.elapsed().as_secs_f64());
    }
    best
}

fn session(work: &Work) -> Session {
    Session::new(work.clone(), SessionOptions::default())
}

/// About 176 KB: two thousand functions, with closures called by name and caught errors among them.
fn long_script() -> String {
    (0..2000)
        .map(|i| {
            format!("fn f{i}(a, h) {{ let b = a + {i}; try {{ b = h(b) * 2; }} catch (e) {{ b = 0; }} b + f{}(a, h) }}\n", i / 2)
        })
        .collect()
}

fn main() {
    let work = Work::silent(1).expect("a thread can be started");
    println!("session start              {:8.2} ms   (to the prompt: < 300)", 1e3 * best(20, || drop(black_box(session(&work)))));

    let mut set_up = session(&work);
    set_up.eval("let model = load_model(\"demo\"); let t = zeros([2, 3]); let m = #{a: t};", "setup").expect("set up");
    for text in ["", "model.cfg.d_", "unembed(d, model, #{f", "m.a.T.to"] {
        let time = best(50, || drop(black_box(set_up.complete(text, text.len()))));
        println!("completion of {text:22} {:6.3} ms   (< 30)", 1e3 * time);
    }

    let script = long_script();
    let mut compiling = session(&work);
    let mut n = 0;
    let time = best(10, || {
        n += 1;
        compiling.eval(&script, &format!("s{n}")).expect("the script compiles");
    });
    println!("compile {:6} bytes        {:8.1} ms   (< 200)", script.len(), 1e3 * time);

    let (a, b) = (Tensor::vector(vec![1.0; 8]), Tensor::vector(vec![2.0; 8]));
    let native = best(20, || {
        for _ in 0..100_000 {
            let _ = black_box(Tensor::arithmetic(Arithmetic::Add, a.clone(), b.clone(), &work));
        }
    }) / 1e5;
    let mut scripted = session(&work);
    scripted.eval("let a = ones([8]); let b = ones([8]);", "setup").expect("set up");
    let run = |session: &mut Session, text: &str| best(7, || drop(session.eval(text, "bench").expect("the loop runs")));
    let with = run(&mut scripted, "for i in 0..100000 { a + b; }");
    let without = run(&mut scripted, "for i in 0..100000 { a; }");
    println!(
        "tensor sum from a script   {:8.2} µs above its native {:.2} µs (< 2)",
        1e6 * ((with - without) / 1e5 - native),
        1e6 * native
    );

    // Plain Rhai with the same limits and hooks off.
    let mut plain = Engine::new();
    plain.set_optimization_level(OptimizationLevel::None);
    let step = "let x = 1.0; let y = 0.5; for i in 0..1000000 { x = x * 1.0001 + y; }";
    let ast = plain.compile(step).expect("the loop compiles");
    let mut looping = session(&work);
    looping.eval("let z = 1; fn other() { z }", "setup").expect("set up");
    // In turn, so that a noisy machine is as noisy for both.
    let (mut theirs, mut ours) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..9 {
        theirs = theirs.min(best(1, || plain.run_ast_with_scope(&mut Scope::new(), &ast).expect("the loop runs")));
        ours = ours.min(run_once(&mut looping, step));
    }
    println!(
        "10^6 scalar steps          {:8.1} ms, plain Rhai {:.1} ms, ratio {:.3} (<= 1.05)",
        1e3 * ours,
        1e3 * theirs,
        ours / theirs
    );
    let shared = "for i in 0..1000000 { z = z * 1.0001 + 0.5; }";
    println!("10^6 steps, shared variable {:7.1} ms", 1e3 * run(&mut looping, shared));
}

fn run_once(session: &mut Session, text: &str) -> f64 {
    best(1, || drop(session.eval(text, "bench").expect("the loop runs")))
}
