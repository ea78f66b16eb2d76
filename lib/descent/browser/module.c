/* The module: what calls the generated functions. It imports nothing.

   The host writes data and a setting into the exported variables, calls begin, and then measure and step.
   `index`, (NETWORKS, batch_size), holds the examples of a step. */

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
#if FRESH /* the update draws them itself */
#elif REPLACEMENT
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

#if SHARPNESS
/* The largest Hessian eigenvalue of each network, to the residual that `descent.probes.curvature.largest` stops at: Lanczos
   with full re-orthogonalization, started from the Ritz vectors with which the last measurement ended. */

enum { VECTORS = PARAMETERS < 64 ? PARAMETERS : 64, VALUES = NETWORKS * PARAMETERS };
static float basis[VECTORS + 1][VALUES];
static double diagonal[NETWORKS][VECTORS], off[NETWORKS][VECTORS], ritz[VECTORS], vectors[VECTORS][VECTORS];

static float dot(const float *a, const float *b) {
  float sum = 0;
  for (int i = 0; i < PARAMETERS; i++) sum += a[i] * b[i];
  return sum;
}

static void add(float *a, float factor, const float *b) {
  for (int i = 0; i < PARAMETERS; i++) a[i] += factor * b[i];
}

/* ritz and vectors (in columns) of a tridiagonal matrix, largest first, by Jacobi rotations */
static void eigen(int m, const double *a, const double *b) {
  static double T[VECTORS][VECTORS];
  for (int i = 0; i < m; i++)
    for (int j = 0; j < m; j++) {
      T[i][j] = i == j ? a[i] : i == j + 1 ? b[j] : j == i + 1 ? b[i] : 0;
      vectors[i][j] = i == j;
    }
  double total = 0, rest = 1;
  for (int i = 0; i < m; i++) total += a[i] * a[i] + b[i] * b[i];
  for (int sweep = 0; sweep < 30 && rest > 1e-26 * total; sweep++) {
    rest = 0;
    for (int p = 0; p < m; p++)
      for (int q = p + 1; q < m; q++) {
        double x = T[p][q];
        rest += x * x;
        if (x * x <= 1e-32 * total) continue;
        double d = (T[q][q] - T[p][p]) / (2 * x), tan = (d < 0 ? -1 : 1) / (ABS(d) + __builtin_sqrt(d * d + 1));
        double c = 1 / __builtin_sqrt(tan * tan + 1), s = tan * c;
        for (int i = 0; i < m; i++) {
          double u = T[i][p], v = T[i][q];
          T[i][p] = c * u - s * v, T[i][q] = s * u + c * v;
        }
        for (int i = 0; i < m; i++) {
          double u = T[p][i], v = T[q][i], y = vectors[i][p], z = vectors[i][q];
          T[p][i] = c * u - s * v, T[q][i] = s * u + c * v;
          vectors[i][p] = c * y - s * z, vectors[i][q] = s * y + c * z;
        }
      }
  }
  for (int i = 0; i < m; i++) {
    int best = i;
    for (int j = i; j < m; j++) best = T[j][j] > T[best][best] ? j : best;
    ritz[i] = T[best][best], T[best][best] = T[i][i];
    for (int j = 0; j < m; j++) {
      double u = vectors[j][i];
      vectors[j][i] = vectors[j][best], vectors[j][best] = u;
    }
  }
}

static void sharpness(float *found) {
  int left = 0, done[NETWORKS];
  f_start();
  for (int k = 0; k < NETWORKS; k++) {
    float *q = basis[0] + k * PARAMETERS, size = __builtin_sqrtf(dot(vector + k * PARAMETERS, vector + k * PARAMETERS));
    for (int i = 0; i < PARAMETERS; i++) q[i] = vector[k * PARAMETERS + i] / size;
    found[k] = __builtin_nanf("");
    left += !(done[k] = !alive[k]);
  }
  for (int m = 1; left && m <= VECTORS; m++) {
    for (int i = 0; i < VALUES; i++) vector[i] = basis[m - 1][i];
    f_product();
    for (int k = 0; k < NETWORKS; k++) {
      if (done[k]) continue;
      float *z = product + k * PARAMETERS, *next = basis[m] + k * PARAMETERS, size = __builtin_sqrtf(dot(z, z));
      if (!(size < __builtin_inff())) { /* NaN or beyond */
        done[k] = 1, left--;
        continue;
      }
      diagonal[k][m - 1] = dot(basis[m - 1] + k * PARAMETERS, z);
      for (int twice = 0; twice < 2; twice++)
        for (int j = 0; j < m; j++) add(z, -dot(basis[j] + k * PARAMETERS, z), basis[j] + k * PARAMETERS);
      float beta = __builtin_sqrtf(dot(z, z));
      int exhausted = beta <= 1.2e-6f * size;
      off[k][m - 1] = beta;
      for (int i = 0; i < PARAMETERS; i++) next[i] = exhausted ? 0 : z[i] / beta;
      if (m < 2 && m < VECTORS && !exhausted) continue;
      eigen(m, diagonal[k], off[k]);
      double largest = MAX(ABS(ritz[0]), ABS(ritz[m - 1])), accepted = MAX(1e-3 * ABS(ritz[0]), 1.2e-5 * largest);
      if (beta * ABS(vectors[m - 1][0]) > accepted && m < VECTORS && !exhausted) continue;
      float *again = warm + k * PARAMETERS;
      for (int i = 0; i < PARAMETERS; i++) again[i] = 0;
      for (int j = 0; j < m; j++) { /* the lower Ritz vectors stay in, fading */
        double weight = 0, factor = 1;
        for (int i = 0; i < m; i++, factor /= 2) weight += factor * vectors[j][i];
        add(again, weight, basis[j] + k * PARAMETERS);
      }
      found[k] = ritz[0], done[k] = 1, left--;
    }
  }
}
#endif

EXPORT void measure(void) {
#if EVALUATED
  f_evaluate();
#endif
#if SHARPNESS
  sharpness(recorded + (QUANTITIES - 1) * NETWORKS);
#endif
}
