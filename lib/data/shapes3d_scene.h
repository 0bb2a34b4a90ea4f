/* The geometry of a 3D Shapes scene: what each pixel shows, without its colours. For shapes3d.c alone. */
#ifndef ED_DATA_SHAPES3D_SCENE_H
#define ED_DATA_SHAPES3D_SCENE_H

#include <stdint.h>

enum { ED_SCENE_SIZE = 64, ED_SCENE_PIXELS = ED_SCENE_SIZE * ED_SCENE_SIZE };

/* What light reaches the pixel from: a pixel is the sum of weight x colour over these. */
typedef enum ed_scene_part {
    ED_SCENE_FLOOR,
    ED_SCENE_WALL,
    ED_SCENE_OBJECT,
    ED_SCENE_SHINE,
    ED_SCENE_PARTS
} ed_scene_part;

typedef enum ed_scene_shape { ED_SCENE_CUBE, ED_SCENE_CYLINDER, ED_SCENE_SPHERE, ED_SCENE_CAPSULE } ed_scene_shape;

/*
 * A corner of a room with one object on its floor, seen by a camera that goes round the object.
 * orientation  0..14, -30 to 30 degrees; scale 0..7, 0.75 to 1.25
 * weights      out, [part][pixel], 65535 for full light; the sum over the parts is at most 65535
 */
void ed_scene_render(ed_scene_shape shape, int scale, int orientation,
                     uint16_t weights[ED_SCENE_PARTS][ED_SCENE_PIXELS]);

#endif
