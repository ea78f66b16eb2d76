/* The module: the functions generated above, and what calls them. It imports nothing.

   The host writes data and a setting into the exported variables, calls begin, and then measure and step.
   `index`, (NETWORKS, batch_size), holds the examples of a step. */

EXPORT int batch_size = EXAMPLES;
EXPORT int optimizer = 0;

EXPORT void begin(void) {
  batch_size = batch_size < 1 ? 1 : batch_size > EXAMPLES ? EXAMPLES : batch_size;
  optimizer = optimizer < 0 || optimizer >= OPTIMIZERS ? 0 : optimizer;
  t[0] = 0;
  clear();
  for (int k = 0; k < NETWORKS; k++) alive[k] = 1, diverged_at[k] = __builtin_nanf("");
  f_init();
}

/* the examples of step t: all of them, or the next ones of the epoch's order */
static void choose(void) {
#if REPLACEMENT
  f_order();
#else
  int steps = EXAMPLES / batch_size;
  long long now = t[0], first = now % steps * batch_size;
  if (batch_size == EXAMPLES) {
    if (now == 0)
      for (int i = 0; i < NETWORKS * EXAMPLES; i++) index[i] = i % EXAMPLES;
    return;
  }
  if (first == 0) {
    t[0] = now / steps; /* the epoch */
    f_order();
    t[0] = now;
  }
  for (int k = 0; k < NETWORKS; k++)
    for (int i = 0; i < batch_size; i++) index[k * batch_size + i] = permutation[k * EXAMPLES + first + i];
#endif
}

EXPORT void step(void) {
  choose();
  update();
  t[0]++;
}

EXPORT void measure(void) {
#if EVALUATED
  f_evaluate();
#endif
#if SHARPNESS
  lanczos();
#endif
}
