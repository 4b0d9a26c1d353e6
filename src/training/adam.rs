//! AdamW (Loshchilov and Hutter 2019) with moments that can be stored.
//!
//! `candle_nn::AdamW` keeps its moments to itself, so a checkpoint could not hold them and a resumed run would start them
//! again from zero. This is the same step, to the bit, behind candle-nn's own [`Optimizer`].

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use candle_nn::{Optimizer, ParamsAdamW};

/// The optimiser of one SAE.
pub(super) struct Adam {
    pub moments: Vec<Moments>,
    /// Steps taken.
    pub steps: usize,
    params: ParamsAdamW,
}

/// A variable with the running means of its gradient and of its gradient's square.
pub(super) struct Moments {
    pub var: Var,
    pub first: Var,
    pub second: Var,
}

impl Optimizer for Adam {
    type Config = ParamsAdamW;

    fn new(vars: Vec<Var>, params: ParamsAdamW) -> Result<Self> {
        let moments = vars.into_iter().map(|var| {
            let zeros = || Var::zeros(var.shape(), var.dtype(), var.device());
            let (first, second) = (zeros()?, zeros()?);
            Ok(Moments { var, first, second })
        });
        Ok(Adam { moments: moments.collect::<Result<_>>()?, steps: 0, params })
    }

    fn step(&mut self, gradients: &GradStore) -> Result<()> {
        self.steps += 1;
        let ParamsAdamW { lr, beta1, beta2, eps, weight_decay } = self.params;
        // f64's powi, as candle-nn has it; a run has fewer than 2³¹ steps.
        let unbias = |beta: f64| 1.0 / (1.0 - beta.powi(self.steps as i32));
        for Moments { var, first, second } in &self.moments {
            let Some(gradient) = gradients.get(var) else { continue };
            let next_first = ((first.as_tensor() * beta1)? + (gradient * (1.0 - beta1))?)?;
            let next_second = ((second.as_tensor() * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
            let step = ((&next_first * unbias(beta1))? / ((&next_second * unbias(beta2))?.sqrt()? + eps)?)?;
            let decayed: Tensor = (var.as_tensor() * (1.0 - lr * weight_decay))?;
            var.set(&(decayed - (step * lr)?)?)?;
            first.set(&next_first)?;
            second.set(&next_second)?;
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.params.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.params.lr = lr;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn its_steps_are_those_of_candle_nn() {
        let start = [0.5f32, -1.25, 3.0, 0.0, -0.001, 7.5];
        let variable = || Var::from_tensor(&Tensor::from_slice(&start, (2, 3), &Device::Cpu).unwrap()).unwrap();
        let params = ParamsAdamW { lr: 0.01, weight_decay: 0.1, ..ParamsAdamW::default() };
        let (ours, theirs) = (variable(), variable());
        let mut adam = Adam::new(vec![ours.clone()], params.clone()).unwrap();
        let mut reference = candle_nn::AdamW::new(vec![theirs.clone()], params).unwrap();
        for step in 0..25 {
            let gradient: Vec<f32> = (0..6).map(|i| ((step * 7 + i * 3) as f32).sin()).collect();
            let gradient = Tensor::from_vec(gradient, (2, 3), &Device::Cpu).unwrap();
            let store = |var: &Var| {
                let mut store = GradStore::default();
                store.insert(var, gradient.clone());
                store
            };
            adam.step(&store(&ours)).unwrap();
            reference.step(&store(&theirs)).unwrap();
        }
        let values = |var: &Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&ours), values(&theirs));
        assert!(values(&ours).iter().zip(start).all(|(now, then)| (now - then).abs() > 1e-3 || then == 0.0));
    }
}
