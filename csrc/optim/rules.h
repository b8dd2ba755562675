// Every rule under the name of its operator. X(operator, variants…): the variants differ in their number of states.
#pragma once
#include "adabelief.h"
#include "adagrad.h"
#include "adam.h"
#include "ademamix.h"
#include "diffgrad.h"
#include "exponentiated_gradient.h"
#include "grams.h"
#include "lion.h"
#include "madgrad.h"
#include "nadam.h"
#include "radam.h"
#include "sgd.h"

#define FC_OPTIM_ADAPTIVE_RULES(X)                       \
  X(optim_adam_, Adam<false>, Adam<true>)                \
  X(optim_ademamix_, AdEMAMix<false>, AdEMAMix<true>)    \
  X(optim_nadam_, NAdam)                                 \
  X(optim_radam_, RAdam)                                 \
  X(optim_adabelief_, AdaBelief<false>, AdaBelief<true>) \
  X(optim_grams_, Grams)

#define FC_OPTIM_OTHER_RULES(X)                                                                \
  X(optim_sgd_, SGD<false>, SGD<true>)                                                         \
  X(optim_lion_, Lion)                                                                         \
  X(optim_adagrad_, Adagrad)                                                                   \
  X(optim_diffgrad_, DiffGrad)                                                                 \
  X(optim_madgrad_, MADGRAD<false>, MADGRAD<true>)                                             \
  X(optim_mirror_madgrad_, MirrorMADGRAD)                                                      \
  X(optim_exponentiated_sgd_, ExponentiatedGradientSGD<false>, ExponentiatedGradientSGD<true>) \
  X(optim_exponentiated_adamw_, ExponentiatedGradientAdamW)
