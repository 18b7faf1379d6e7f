/* nbody [STEPS]: the Sun and four planets, integrated in steps. Floating point in a few hot loops. */
#include <math.h>
#include <string.h>

#include "program.h"

#define BODIES 5
#define PI 3.141592653589793
#define SOLAR_MASS (4 * PI * PI)
#define DAYS 365.24

struct body {
    double x[3], v[3], mass;
};

static struct body bodies[BODIES] = {
    { { 0, 0, 0 }, { 0, 0, 0 }, SOLAR_MASS },
    { { 4.84143144246472090, -1.16032004402742839, -0.103622044471123109 },
      { 0.00166007664274403694 * DAYS, 0.00769901118419740425 * DAYS, -0.0000690460016972063023 * DAYS },
      0.000954791938424326609 * SOLAR_MASS },
    { { 8.34336671824457987, 4.12479856412430479, -0.403523417114321381 },
      { -0.00276742510726411862 * DAYS, 0.00499852801234917238 * DAYS, 0.0000230417297573763929 * DAYS },
      0.000285885980666130812 * SOLAR_MASS },
    { { 12.8943695621391310, -15.1111514016986312, -0.223307578892655734 },
      { 0.00296460137564761618 * DAYS, 0.00237847173959480950 * DAYS, -0.0000296589568540237556 * DAYS },
      0.0000436624404335156298 * SOLAR_MASS },
    { { 15.3796971148509165, -25.9193146099879641, 0.179258772950371181 },
      { 0.00268067772490389322 * DAYS, 0.00162824170038242295 * DAYS, -0.0000951592254519715870 * DAYS },
      0.0000515138902046611451 * SOLAR_MASS },
};

static double energy(void)
{
    double sum = 0;
    for (int i = 0; i < BODIES; i++) {
        const struct body *a = &bodies[i];
        sum += 0.5 * a->mass * (a->v[0] * a->v[0] + a->v[1] * a->v[1] + a->v[2] * a->v[2]);
        for (int j = i + 1; j < BODIES; j++) {
            const struct body *b = &bodies[j];
            double x = a->x[0] - b->x[0], y = a->x[1] - b->x[1], z = a->x[2] - b->x[2];
            sum -= a->mass * b->mass / sqrt(x * x + y * y + z * z);
        }
    }
    return sum;
}

__attribute__((noinline)) static void advance(double dt)
{
    for (int i = 0; i < BODIES; i++) {
        struct body *a = &bodies[i];
        for (int j = i + 1; j < BODIES; j++) {
            struct body *b = &bodies[j];
            double d[3], square = 0;
            for (int k = 0; k < 3; k++) {
                d[k] = a->x[k] - b->x[k];
                square += d[k] * d[k];
            }
            double size = dt / (square * sqrt(square));
            for (int k = 0; k < 3; k++) {
                a->v[k] -= d[k] * b->mass * size;
                b->v[k] += d[k] * a->mass * size;
            }
        }
    }
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++)
            bodies[i].x[k] += dt * bodies[i].v[k];
}

int main(int argc, char **argv)
{
    uint32_t steps = program_size(argc, argv, 1000000);
    for (int k = 0; k < 3; k++) {
        double momentum = 0;
        for (int i = 0; i < BODIES; i++)
            momentum += bodies[i].v[k] * bodies[i].mass;
        bodies[0].v[k] = -momentum / SOLAR_MASS;
    }
    for (uint32_t step = 0; step < steps; step++)
        advance(0.01);
    double end = energy();
    uint64_t bits;
    memcpy(&bits, &end, sizeof bits);
    return program_end(bits);
}
