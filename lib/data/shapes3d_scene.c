/*
 * A ray caster for one kind of scene. Two walls meet behind an object that stands on the floor; the camera goes round
 * the object by the orientation. Light: an area lamp, light from everywhere less what the object and the room hide, a
 * highlight on the object.
 *
 * The object is a cube or one body of revolution, the rounded cylinder: a cylinder of radius `radius` whose rims are
 * quarters of a torus that degenerate to a sphere. Cylinder, sphere and capsule are its cases with caps of height 0
 * or `radius`.
 *
 * Only + - * / and square roots are used, in double, on constants: results differ between machines by rounding alone,
 * and weights are rounded to 16 bits far above that.
 */
#include <math.h>
#include <stdbool.h>

#include "data/shapes3d_scene.h"

#define SIZE ED_SCENE_SIZE

typedef struct vec {
    double x, y, z;
} vec;

static inline vec add(vec a, vec b) { return (vec){a.x + b.x, a.y + b.y, a.z + b.z}; }
static inline vec sub(vec a, vec b) { return (vec){a.x - b.x, a.y - b.y, a.z - b.z}; }
static inline vec mul(vec a, double f) { return (vec){a.x * f, a.y * f, a.z * f}; }
static inline double dot(vec a, vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
static inline vec along(vec origin, vec direction, double t) { return add(origin, mul(direction, t)); }
static inline vec cross(vec a, vec b)
{
    return (vec){a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
static inline vec unit(vec a) { return mul(a, 1 / sqrt(dot(a, a))); }
static inline double clamp01(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

/* ---------------------------------------------------------------- the scene */

/* z is up, the floor is z = 0, the object stands at the origin, the room's corner lies in the direction of +y. */
#define HALF_SQRT2 0.70710678118654752
#define WALL_DISTANCE 2.6
static const vec wall_normals[2] = {{HALF_SQRT2, -HALF_SQRT2, 0}, {-HALF_SQRT2, -HALF_SQRT2, 0}}; /* into the room */

/* Sine and cosine of 0, 60/14, ... 30 degrees, so that no machine's libm has a say. */
static const double angles[8][2] = {
    {0, 1},
    {0.07473009358642424, 0.9972037971811801},
    {0.14904226617617441, 0.9888308262251285},
    {0.22252093395631434, 0.9749279121818236},
    {0.29475517441090426, 0.9555728057861407},
    {0.36534102436639504, 0.9308737486442042},
    {0.4338837391175581, 0.9009688679024191},
    {0.5, 0.8660254037844386},
};

#define CAMERA_DISTANCE 5.2
#define CAMERA_HEIGHT 2.7
#define CAMERA_TARGET 0.72 /* height that the middle of the picture shows */
#define HALF_VIEW 0.30     /* tangent of half the angle of view */

/* The lamp: a square of LAMP_SIDE x LAMP_SIDE points, fixed to the room. */
enum { LAMP_SIDE = 8, LAMP_POINTS = LAMP_SIDE * LAMP_SIDE, LAMP_STRIDE = 4 };
static const vec lamp_centre = {-2.1, -2.6, 5.2};
#define LAMP_HALF 0.75

typedef struct scene {
    bool cube;
    double half;           /* of the cube's edge */
    double radius, height; /* of the body of revolution */
    double cap;            /* height of its rounded ends: 0 flat, radius for half a sphere */
    double bound;          /* radius of a sphere about `middle` that holds the object */
    vec middle;
    vec eye, right, up, forward;
    vec lamp[LAMP_POINTS];
} scene;

typedef enum surface { FLOOR, WALL_0, WALL_1, OBJECT } surface;

typedef struct hit {
    double t;
    vec normal;
    int surface; /* of the object: OBJECT and more, one for each face */
} hit;

/* At scale 1: radius (of the cube: half its edge), height, height of the rounded ends. */
static const double bodies[4][3] = {
    [ED_SCENE_CUBE] = {0.6, 1.2, 0},
    [ED_SCENE_CYLINDER] = {0.64, 1.28, 0},
    [ED_SCENE_SPHERE] = {0.76, 1.52, 0.76},
    [ED_SCENE_CAPSULE] = {0.54, 1.8, 0.54},
};

static void place_object(scene *s, ed_scene_shape shape, double scale)
{
    const double *body = bodies[shape];
    s->cube = shape == ED_SCENE_CUBE;
    s->half = s->radius = body[0] * scale;
    s->height = body[1] * scale;
    s->cap = body[2] * scale;
    s->middle = (vec){0, 0, s->height / 2};
    double reach = s->cube ? s->half * 2 * HALF_SQRT2 : s->radius;
    s->bound = s->cap > 0 ? s->height / 2 : sqrt(reach * reach + s->height * s->height / 4);
}

static void place_camera(scene *s, int orientation)
{
    int step = orientation < 7 ? 7 - orientation : orientation - 7;
    double sine = orientation < 7 ? -angles[step][0] : angles[step][0], cosine = angles[step][1];
    s->eye = (vec){CAMERA_DISTANCE * sine, -CAMERA_DISTANCE * cosine, CAMERA_HEIGHT};
    s->forward = unit(sub((vec){0, 0, CAMERA_TARGET}, s->eye));
    s->right = unit(cross(s->forward, (vec){0, 0, 1}));
    s->up = cross(s->right, s->forward);
}

static void place_lamp(scene *s)
{
    vec towards = unit(lamp_centre), a = unit(cross(towards, (vec){0, 0, 1})), b = cross(a, towards);
    for (int i = 0; i < LAMP_POINTS; i++) {
        double u = ((i % LAMP_SIDE + 0.5) * 2 / LAMP_SIDE - 1) * LAMP_HALF;
        double v = ((i / LAMP_SIDE + 0.5) * 2 / LAMP_SIDE - 1) * LAMP_HALF;
        s->lamp[i] = add(lamp_centre, add(mul(a, u), mul(b, v)));
    }
}

/* ---------------------------------------------------------------- rays */

static bool meets_bound(const scene *s, vec origin, vec direction)
{
    vec to = sub(s->middle, origin);
    double b = dot(to, direction), d = dot(direction, direction);
    double distance = dot(to, to) - s->bound * s->bound;
    return distance <= 0 || (b > 0 && b * b >= d * distance);
}

/* Nearer root of |origin + t direction|^2 = r^2 in the dimensions that a, b, c were made from, or a negative number. */
static double nearer_root(double a, double b, double c)
{
    double d = b * b - a * c;
    return a <= 0 || d < 0 ? -1 : (-b - sqrt(d)) / a;
}

static void keep_nearer(hit *best, double t, vec normal, int face)
{
    if (t > 1e-9 && t < best->t) *best = (hit){t, normal, OBJECT + face};
}

static void meet_cube(const scene *s, vec origin, vec direction, hit *best)
{
    /* The cube's sides are parallel to the walls: turn by 45 degrees. */
    vec o = {(origin.x + origin.y) * HALF_SQRT2, (origin.y - origin.x) * HALF_SQRT2, origin.z};
    vec d = {(direction.x + direction.y) * HALF_SQRT2, (direction.y - direction.x) * HALF_SQRT2, direction.z};
    const double from[3] = {o.x, o.y, o.z - s->half}, step[3] = {d.x, d.y, d.z};
    double enter = -INFINITY, leave = INFINITY;
    int axis = 0;
    for (int i = 0; i < 3; i++) {
        double inverse = 1 / step[i], a = (-s->half - from[i]) * inverse, b = (s->half - from[i]) * inverse;
        double near = a < b ? a : b, far = a < b ? b : a;
        if (near > enter) enter = near, axis = i;
        if (far < leave) leave = far;
    }
    if (enter > leave) return;
    double sign = step[axis] > 0 ? -1 : 1;
    vec normal = axis == 2   ? (vec){0, 0, sign}
                 : axis == 0 ? (vec){sign * HALF_SQRT2, sign * HALF_SQRT2, 0}
                             : (vec){-sign * HALF_SQRT2, sign * HALF_SQRT2, 0};
    keep_nearer(best, enter, normal, axis);
}

static void meet_ball(const scene *s, double height, vec origin, vec direction, hit *best)
{
    vec to = sub(origin, (vec){0, 0, height});
    double t = nearer_root(dot(direction, direction), dot(to, direction), dot(to, to) - s->radius * s->radius);
    keep_nearer(best, t, mul(add(to, mul(direction, t)), 1 / s->radius), 0);
}

static void meet_body(const scene *s, vec origin, vec direction, hit *best)
{
    double low = s->cap, high = s->height - s->cap;
    if (high > low) {
        double a = direction.x * direction.x + direction.y * direction.y;
        double b = origin.x * direction.x + origin.y * direction.y;
        double c = origin.x * origin.x + origin.y * origin.y - s->radius * s->radius;
        double t = nearer_root(a, b, c);
        vec p = along(origin, direction, t);
        if (p.z >= low && p.z <= high) keep_nearer(best, t, (vec){p.x / s->radius, p.y / s->radius, 0}, 0);
    }
    if (s->cap > 0) {
        meet_ball(s, low, origin, direction, best);
        if (high > low) meet_ball(s, high, origin, direction, best);
    } else if (direction.z != 0) {
        double t = (s->height - origin.z) / direction.z;
        vec p = along(origin, direction, t);
        if (p.x * p.x + p.y * p.y <= s->radius * s->radius) keep_nearer(best, t, (vec){0, 0, 1}, 1);
    }
}

static void meet_object(const scene *s, vec origin, vec direction, hit *best)
{
    if (!meets_bound(s, origin, direction)) return;
    if (s->cube)
        meet_cube(s, origin, direction, best);
    else
        meet_body(s, origin, direction, best);
}

static hit cast(const scene *s, vec direction)
{
    hit best = {.t = INFINITY, .normal = {0, 0, 1}, .surface = FLOOR};
    if (direction.z < 0) best.t = -s->eye.z / direction.z;
    for (int i = 0; i < 2; i++) {
        double slope = dot(wall_normals[i], direction);
        if (slope >= 0) continue;
        double t = -(WALL_DISTANCE + dot(wall_normals[i], s->eye)) / slope;
        if (t < best.t) best = (hit){t, wall_normals[i], WALL_0 + i};
    }
    meet_object(s, s->eye, direction, &best);
    return best;
}

/* Pixel coordinates from the upper left corner. */
static vec view_ray(const scene *s, double x, double y)
{
    double u = (x * 2 / SIZE - 1) * HALF_VIEW, v = (1 - y * 2 / SIZE) * HALF_VIEW;
    return add(s->forward, add(mul(s->right, u), mul(s->up, v)));
}

/* ---------------------------------------------------------------- light */

static bool sees(const scene *s, vec point, int lamp_point)
{
    hit blocked = {.t = 1};
    meet_object(s, point, sub(s->lamp[lamp_point], point), &blocked);
    return blocked.t >= 1;
}

/*
 * The part of the lamp that the point sees. Its corners are asked first, and all points only in the half shadow; of a
 * pixel's many rays each asks every `stride`-th.
 */
static double lamp_seen(const scene *s, vec point, int first, int stride)
{
    static const int corners[4] = {0, LAMP_SIDE - 1, LAMP_POINTS - LAMP_SIDE, LAMP_POINTS - 1};
    int seen = 0;
    for (int i = 0; i < 4; i++) seen += sees(s, point, corners[i]);
    if (seen == 0 || seen == 4) return seen / 4;
    seen = 0;
    for (int i = first; i < LAMP_POINTS; i += stride) seen += sees(s, point, i);
    return (double)(seen * stride) / LAMP_POINTS;
}

/* Near to another surface less light arrives from around. */
static double openness(double distance) { return 1 - 0.32 / (1 + 6 * distance * distance); }

/* How much of the half space over the point the object hides, taken as a ball. */
static double hidden_by_object(const scene *s, vec point, vec normal)
{
    vec to = sub(s->middle, point);
    double square = dot(to, to), distance = sqrt(square), size = s->height * 0.25 + s->radius * 0.5;
    if (s->cube) size = s->half * 1.1;
    return clamp01(clamp01(dot(normal, to) / distance) * size * size / square);
}

typedef struct light {
    double part[ED_SCENE_PARTS];
} light;

static double room_light(const scene *s, vec point, const hit *h, double direct)
{
    double wall_0 = WALL_DISTANCE + dot(wall_normals[0], point), wall_1 = WALL_DISTANCE + dot(wall_normals[1], point);
    double around = 1 - 0.8 * hidden_by_object(s, point, h->normal);
    if (h->surface == FLOOR)
        around *= openness(wall_0) * openness(wall_1);
    else
        around *= openness(point.z) * openness(h->surface == WALL_0 ? wall_1 : wall_0);
    return clamp01(0.5 * around + 0.62 * direct);
}

/* The colour of the object, and the lamp's white reflection on it. */
static void object_light(vec point, const hit *h, vec to_lamp, vec to_eye, double direct, light *out)
{
    double around = 0.36 + 0.16 * h->normal.z, ground = 1 - 0.35 / (1 + 8 * point.z * point.z);
    double level = clamp01(around * ground + 0.62 * direct);
    double shine = dot(h->normal, unit(add(to_lamp, to_eye)));
    shine = shine < 0 ? 0 : shine * shine;
    for (int i = 0; i < 4; i++) shine *= shine; /* the 32nd power */
    shine = direct > 0 ? 0.3 * shine : 0;
    out->part[ED_SCENE_SHINE] += shine;
    out->part[ED_SCENE_OBJECT] += level < 1 - shine ? level : 1 - shine;
}

/* Ray `ray` of the `rays` of a pixel. */
static void shade(const scene *s, vec direction, const hit *h, int ray, int rays, light *out)
{
    vec point = along(s->eye, direction, h->t), to_lamp = sub(lamp_centre, point);
    double square = dot(to_lamp, to_lamp), facing = dot(to_lamp, h->normal) / sqrt(square);
    double direct = facing <= 0 ? 0 : facing * 40 / (6 + square);
    if (h->surface >= OBJECT) { /* convex: nothing hides the lamp from it */
        object_light(point, h, unit(to_lamp), unit(mul(direction, -1)), direct, out);
        return;
    }
    int stride = rays > 1 ? LAMP_STRIDE : 1;
    if (direct > 0) direct *= lamp_seen(s, point, ray % stride, stride);
    out->part[h->surface == FLOOR ? ED_SCENE_FLOOR : ED_SCENE_WALL] += room_light(s, point, h, direct);
}

/* ---------------------------------------------------------------- the picture */

enum { EDGE_SIDE = 4 }; /* rays of a pixel with an edge in it: 4 x 4 */

static void trace_pixel(const scene *s, int x, int y, bool edge, light *out)
{
    int side = edge ? EDGE_SIDE : 1;
    *out = (light){{0}};
    for (int i = 0; i < side * side; i++) {
        vec direction = view_ray(s, x + (i % side + 0.5) / side, y + (i / side + 0.5) / side);
        hit h = cast(s, direction);
        shade(s, direction, &h, i, side * side, out);
    }
    for (int p = 0; p < ED_SCENE_PARTS; p++) out->part[p] /= side * side;
}

/* Surfaces at the pixels' corners, one row of them. */
static void trace_corners(const scene *s, int y, int surfaces[SIZE + 1])
{
    for (int x = 0; x <= SIZE; x++) surfaces[x] = cast(s, view_ray(s, x, y)).surface;
}

void ed_scene_render(ed_scene_shape shape, int scale, int orientation,
                     uint16_t weights[ED_SCENE_PARTS][ED_SCENE_PIXELS])
{
    scene s;
    int rows[2][SIZE + 1];
    place_object(&s, shape, 0.75 + scale * (0.5 / 7));
    place_camera(&s, orientation);
    place_lamp(&s);
    trace_corners(&s, 0, rows[0]);
    for (int y = 0; y < SIZE; y++) {
        const int *above = rows[y % 2], *below = rows[(y + 1) % 2];
        trace_corners(&s, y + 1, rows[(y + 1) % 2]);
        for (int x = 0; x < SIZE; x++) {
            bool edge = above[x] != above[x + 1] || above[x] != below[x] || above[x] != below[x + 1];
            light l;
            trace_pixel(&s, x, y, edge, &l);
            for (int p = 0; p < ED_SCENE_PARTS; p++) weights[p][y * SIZE + x] = (uint16_t)(l.part[p] * 65535 + 0.5);
        }
    }
}
