//! Where labels go when they would cover each other.

/// Centres for labels of `(wanted centre, height)`, given by ascending centre: none covers
/// another, each as near to where it wants to be as the others let it, all between `top` and
/// `bottom` if there is room.
pub fn spread(labels: &[(f64, f64)], top: f64, bottom: f64) -> Vec<f64> {
    let mut blocks: Vec<LabelBox> = Vec::new();
    for (i, &(wanted, height)) in labels.iter().enumerate() {
        let mut block = LabelBox { first: i, sum: wanted - height / 2.0, count: 1.0, height };
        // The tops the labels of a block want, less what is above them in the block: their mean
        // is the block's best top.
        while let Some(above) =
            blocks.pop_if(|above| above.top(top, bottom) + above.height > block.top(top, bottom))
        {
            block = above.joined(block);
        }
        blocks.push(block);
    }
    let mut centres = vec![0.0; labels.len()];
    for (i, block) in blocks.iter().enumerate() {
        let mut at = block.top(top, bottom);
        let end = blocks.get(i + 1).map_or(labels.len(), |next| next.first);
        for (centre, (_, height)) in centres[block.first..end].iter_mut().zip(&labels[block.first..end]) {
            *centre = at + height / 2.0;
            at += height;
        }
    }
    centres
}

/// Labels that touch.
struct LabelBox {
    first: usize,
    sum: f64,
    count: f64,
    height: f64,
}

impl LabelBox {
    fn top(&self, top: f64, bottom: f64) -> f64 {
        (self.sum / self.count).min(bottom - self.height).max(top)
    }

    fn joined(self, below: LabelBox) -> LabelBox {
        LabelBox {
            first: self.first,
            sum: self.sum + below.sum - self.height * below.count,
            count: self.count + below.count,
            height: self.height + below.height,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn labels_move_only_as_far_as_they_must() {
        assert_eq!(spread(&[(10.0, 4.0), (50.0, 4.0)], 0.0, 100.0), [10.0, 50.0]);
        assert_eq!(spread(&[(10.0, 4.0), (10.0, 4.0), (10.0, 4.0)], 0.0, 100.0), [6.0, 10.0, 14.0]);
        assert_eq!(spread(&[(99.0, 10.0), (99.0, 10.0)], 0.0, 100.0), [85.0, 95.0]);
        assert_eq!(spread(&[(1.0, 10.0), (2.0, 10.0)], 0.0, 100.0), [5.0, 15.0]);
    }
}
