// Every rule under the name of its operator. X(operator, variants…): the variants differ in their number of states.
#pragma once
#include "adabelief.h"
#include "adagrad.h"
#include "adam.h"
#include "adamp.h"
#include "ademamix.h"
#include "diffgrad.h"
#include "dog.h"
#include "exponentiated_gradient.h"
#include "fedspeed.h"
#include "grams.h"
#include "lion.h"
#include "madgrad.h"
#include "measures.h"
#include "nadam.h"
#include "opt_amsgrad.h"
#include "radam.h"
#include "sania.h"
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

#define FC_OPTIM_MEASURES(X)               \
  X(optim_dots, Dots)                      \
  X(optim_squares, Squares)                \
  X(optim_keep, Keep)                      \
  X(optim_gradient_squares, GradientSquares) \
  X(optim_dog_sums, DoGSums)               \
  X(optim_sania_sums, SANIASums)           \
  X(optim_fedspeed_sums, FedSpeedSums)

#define FC_OPTIM_TWO_PHASE_RULES(X) \
  X(optim_scaled_, Scaled)          \
  X(optim_sania_, SANIA)            \
  X(optim_fedspeed_, FedSpeed<false>, FedSpeed<true>) \
  X(optim_opt_amsgrad_, OPTAMSGrad)

#define FC_OPTIM_PROJECTED_RULES(X) \
  X(optim_adamp_, AdamP)            \
  X(optim_sgdp_, SGDP)
