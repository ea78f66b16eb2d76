/* What the generated functions call: elementary functions, matrix products, sorting.

   Elementary functions have no branches, so that the loops around them are vectorized. All but
   tanh are evaluated in double precision and rounded: they are rare, and the result is float's best. */

#define EXPORT __attribute__((visibility("default"), used))

typedef float f4 __attribute__((vector_size(16), aligned(4)));

/* loops are unrolled here alone: elsewhere that makes modules four times larger, and no faster */
#define UNROLL _Pragma("clang loop unroll(full)")

#define MAX(a, b) ({ __typeof__((a) + (b)) x_ = (a), y_ = (b); x_ < y_ || y_ != y_ ? y_ : x_; })
#define MIN(a, b) ({ __typeof__((a) + (b)) x_ = (a), y_ = (b); x_ > y_ || y_ != y_ ? y_ : x_; })
#define ABS(a) ({ __typeof__(a) x_ = (a); x_ < 0 ? -x_ : x_; })
#define SIGN(a) ({ __typeof__(a) x_ = (a); (__typeof__(a))((x_ > 0) - (x_ < 0)); })
#define SQRT(a) _Generic((a), double: __builtin_sqrt, default: __builtin_sqrtf)(a)
#define SHL(a, b) ((__typeof__(a))((unsigned long long)(a) << (b)))
/* rounded towards minus infinity, as Python does; a divisor of zero is taken as one */
#define DIV(a, b) ({ long long x_ = (a), y_ = (b) ? (b) : 1; x_ / y_ - (x_ % y_ != 0 && (x_ < 0) != (y_ < 0)); })
#define MOD(a, b) ({ long long u_ = (a), v_ = (b) ? (b) : 1; u_ - v_ * DIV(u_, v_); })

static inline long long inside(long long i, long long n) {
  i += i < 0 ? n : 0;
  return i < 0 ? 0 : i >= n ? n - 1 : i;
}

static inline long long bits(double x) { return __builtin_bit_cast(long long, x); }
static inline double of_bits(long long i) { return __builtin_bit_cast(double, i); }

/* exp: x = k log 2 + r, |r| <= log 2 / 2, and a Taylor polynomial of r; 0 and infinity beyond double's range */
static inline double exp_(double x) {
  double c = x < -708 ? -708 : x > 709 ? 709 : x;
  c = x != x ? 0 : c;
  double k = __builtin_rint(c * 1.4426950408889634);
  double r = (c - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10, p = 1;
  UNROLL for (int n = 13; n >= 1; n--) p = 1 + p * r / n;
  p *= of_bits(((long long)(int)k + 1023) << 52);
  return x != x ? x : x < -708 ? 0 : x > 709 ? __builtin_inf() : p;
}

/* log: x = 2^k m, sqrt(1/2) <= m < sqrt(2), log m = 2 artanh((m - 1) / (m + 1)); x is a normal number */
static inline double log_(double x) {
  long long i = bits(x), k = (i - 0x3fe6a09e667f3bcdLL) >> 52;
  double m = of_bits(i - (k << 52)), s = (m - 1) / (m + 1), s2 = s * s, p = 0;
  UNROLL for (int n = 21; n >= 1; n -= 2) p = p * s2 + 1.0 / n;
  double y = 2 * s * p + (double)(int)k * 0.69314718055994530942;
  return x > 0 ? (x == __builtin_inf() ? x : y) : x == 0 ? -__builtin_inf() : __builtin_nan("");
}

static inline float expf_(float x) { return (float)exp_(x); }
static inline float logf_(float x) { return (float)log_(x); }
static inline float expm1f_(float x) {
  double y = x, series = y * (1 + y / 2 * (1 + y / 3 * (1 + y / 4)));
  return (float)(ABS(y) < 1e-3 ? series : exp_(y) - 1);
}
static inline float log1pf_(float x) {
  double y = x, series = y * (1 - y * (0.5 - y / 3 + y * y / 4));
  return (float)(ABS(y) < 1e-3 ? series : log_(1 + y));
}

static inline float powf_(float a, float b) {
  double size = exp_(b * log_(ABS(a))), whole = __builtin_rint(b), odd = whole - 2 * __builtin_rint(whole / 2);
  size = a < 0 ? (b != whole ? __builtin_nan("") : odd != 0 ? -size : size) : size;
  return (float)(b == 0 ? 1 : size);
}

/* sine: x = q pi / 2 + r, a Taylor polynomial of r for each parity of q; NaN from |x| = 1e6 on, where too few digits are left */
static inline double sine(double x, int quarter) {
  double q = __builtin_rint(x * 0.63661977236758134308);
  double r = (x - q * 1.57079632673412561417) - q * 6.07710050650619224932e-11, r2 = r * r, s = 1, c = 1;
  UNROLL for (int n = 14; n >= 2; n -= 2) s = 1 - s * r2 / (n * (n + 1)), c = 1 - c * r2 / (n * (n - 1));
  int turn = (int)q + quarter;
  double y = turn & 1 ? c : s * r;
  return turn & 2 ? -y : y;
}
static inline float quarter_wave(float x, int quarter) {
  int small = ABS(x) < 1e6f;
  return small ? (float)sine(small ? x : 0, quarter) : __builtin_nanf("");
}
static inline float sinf_(float x) { return quarter_wave(x, 0); }
static inline float cosf_(float x) { return quarter_wave(x, 1); }

/* tanh: a quotient of polynomials on [-7.9, 7.9], where float's tanh reaches 1 (the one of Eigen and XLA) */
static inline float tanhf_(float x) {
  float c = x < -7.90531110763549805f ? -7.90531110763549805f : x > 7.90531110763549805f ? 7.90531110763549805f : x, x2 = c * c;
  float p = -2.76076847742355e-16f, q = 1.19825839466702e-06f;
  p = p * x2 + 2.00018790482477e-13f, p = p * x2 + -8.60467152213735e-11f, p = p * x2 + 5.12229709037114e-08f;
  p = p * x2 + 1.48572235717979e-05f, p = p * x2 + 6.37261928875436e-04f, p = p * x2 + 4.89352455891786e-03f;
  q = q * x2 + 1.18534705686654e-04f, q = q * x2 + 2.26843463243900e-03f, q = q * x2 + 4.89352518554385e-03f;
  return ABS(x) < 0.0004f ? x : c * p / q;
}

/* -- matrix products: out = a b for every matrix of a batch, strides in elements ----------------------- */

/* `rows` rows of the product, `width` vectors of four columns at a time; b lies row by row */
static inline __attribute__((always_inline)) void tile(int rows, int width, int inner, const float *a, int am, int ak,
                                                       const float *b, int bk, float *out, int om) {
  f4 sum[4][2] = {0};
  for (int k = 0; k < inner; k++)
    UNROLL for (int j = 0; j < width; j++) {
      f4 right = *(const f4 *)(b + k * bk + 4 * j);
      UNROLL for (int i = 0; i < rows; i++) sum[i][j] += a[i * am + k * ak] * right;
    }
  UNROLL for (int i = 0; i < rows; i++)
    UNROLL for (int j = 0; j < width; j++) *(f4 *)(out + i * om + 4 * j) = sum[i][j];
}

static inline __attribute__((always_inline)) void strip(int rows, int n, int inner, const float *a, int am, int ak,
                                                        const float *b, int bk, float *out, int om) {
  int j = 0;
  for (; j + 8 <= n; j += 8) tile(rows, 2, inner, a, am, ak, b + j, bk, out + j, om);
  for (; j + 4 <= n; j += 4) tile(rows, 1, inner, a, am, ak, b + j, bk, out + j, om);
  for (; j < n; j++)
    for (int i = 0; i < rows; i++) {
      float sum = 0;
      for (int k = 0; k < inner; k++) sum += a[i * am + k * ak] * b[k * bk + j];
      out[i * om + j] = sum;
    }
}

static void matmul(int batch, int m, int n, int inner, const float *a, int ab, int am, int ak,
                   const float *b, int bb, int bk, int bn, float *out, float *panel) {
  for (int s = 0; s < batch; s++, a += ab, b += bb, out += m * n) {
    const float *rows = b;
    int stride = bk;
    if (bn != 1) { /* lay b out row by row */
      for (int j = 0; j < n; j++)
        for (int k = 0; k < inner; k++) panel[k * n + j] = b[k * bk + j * bn];
      rows = panel, stride = n;
    }
    int i = 0;
    for (; i + 4 <= m; i += 4) strip(4, n, inner, a + i * am, am, ak, rows, stride, out + i * n, n);
    for (; i < m; i++) strip(1, n, inner, a + i * am, am, ak, rows, stride, out + i * n, n);
  }
}

/* -- sorting: values upwards and where they were, equal ones in their order (merge sort) --------------- */

static void sort(int n, const long long *keys, long long *values, long long *order, long long *room) {
  for (int i = 0; i < n; i++) order[i] = i;
  for (int width = 1; width < n; width *= 2) {
    for (int low = 0; low < n; low += 2 * width) {
      int middle = MIN(low + width, n), high = MIN(low + 2 * width, n), left = low, right = middle;
      for (int i = low; i < high; i++)
        room[i] = right >= high || (left < middle && keys[order[left]] <= keys[order[right]]) ? order[left++] : order[right++];
    }
    for (int i = 0; i < n; i++) order[i] = room[i];
  }
  for (int i = 0; i < n; i++) values[i] = keys[order[i]];
}
