// Activation functions of layers.
#pragma once

namespace recsys_fast {

// The form of GELU with tanh is Hendrycks & Gimpel's (2016), the other x Phi(x).
enum class Activation { kRelu = 0, kGeluTanh = 1, kTanh = 2, kSigmoid = 3, kIdentity = 4, kGelu = 5 };

// Whether the derivative needs the argument, because the result does not tell it.
inline constexpr bool needs_argument(Activation a) { return a == Activation::kGeluTanh || a == Activation::kGelu; }

}  // namespace recsys_fast
